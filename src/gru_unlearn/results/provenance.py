"""Where a result came from: models and rows, known by their content."""

from pathlib import Path
from typing import Literal

from gru_unlearn.results.conversion import Conversion
from gru_unlearn.results.file_model import FileModel

HowFound = Literal["made", "part", "set aside"]
"""Rows that a run found by itself: made by its model, a part of those given, set aside from the retain rows."""


class ModelSource(FileModel):
    """A model: where it was found, and the SHA-256 of its weights and configuration."""

    source: str | None = None
    sha256: str | None = None
    folder: str | None = None
    """the absolute path of one that is a folder, or a GGUF file: its source may be relative"""
    converted_from: Conversion | None = None
    """the GGUF file that it was read from"""

    @property
    def place(self) -> str | None:
        """By what it is found again, from any working directory; a folder is never taken for a hub model."""
        was_moved_along = self.source and Path(self.source).expanduser().exists()
        if self.folder is None or (was_moved_along and not Path(self.folder).exists()):
            return self.source
        return self.folder


class RowsSource(FileModel):
    """A set of rows: where it was read, how many rows, and the SHA-256 of their contents."""

    source: str | None = None
    rows: int
    sha256: str
    found: HowFound | None = None
    """how, where a run found them by itself; its source is a file beside the run then"""

    def place_beside(self, run: Path) -> str | None:
        """By what the rows are found again: those that a run found by itself moved with its folder."""
        if self.found is None or self.source is None:
            return self.source
        file = run / Path(self.source).name
        if file.is_file():
            return str(file)
        return self.source
