"""Where a result came from: models and rows, known by their content."""

from gru_unlearn.results.file_model import FileModel


class ModelSource(FileModel):
    """A model: where it was found, and the SHA-256 of its weights and configuration."""

    source: str | None = None
    sha256: str | None = None


class RowsSource(FileModel):
    """A set of rows: where it was read, how many rows, and the SHA-256 of their contents."""

    source: str | None = None
    rows: int
    sha256: str
