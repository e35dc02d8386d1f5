"""Of a model that was made from a file of another format: which file that was."""

from gru_unlearn.results.file_model import FileModel

CONVERSION_FILE = "converted_from.json"
PLAIN_TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""What GGUF calls a type of plain numbers → what torch and people call it; all others are quantised."""


class Conversion(FileModel):
    """What stands in :data:`CONVERSION_FILE` of a model's folder."""

    file: str
    """its name, without folders"""
    sha256: str
    types: dict[str, int]
    """type → how many weights it stores in it, most first"""
    versions: dict[str, str]
    """of the libraries that read it"""

    @property
    def stored_as(self) -> str:
        """The type of most weights."""
        return next(iter(self.types))

    @property
    def was_quantised(self) -> bool:
        """Whether most weights were stored as small whole numbers with scales."""
        return self.stored_as not in PLAIN_TYPES
