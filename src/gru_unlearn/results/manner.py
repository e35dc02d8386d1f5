"""How a run asked its model: a small file beside the weights, so that whoever comes later asks alike."""

from pathlib import Path

from gru_unlearn.common.files import UnreadableFile
from gru_unlearn.errors import UserError
from gru_unlearn.results.file_model import FileModel, JsonObject

MANNER_FILE = "gru_unlearn.json"


class AdapterBase(FileModel):
    """The whole model that adapters belong to."""

    source: str | None = None
    """an absolute path, or a hub id; None: a folder that is nobody's business"""
    revision: str | None = None
    """of a hub repository: the commit"""
    sha256: str
    """of its weights and configuration"""
    bound: bool = False
    """whether the adapters are refused on any other model: they are a patch of this one"""

    @property
    def folder(self) -> Path | None:
        """Where it was, if it was a folder and no hub repository."""
        if self.source and Path(self.source).is_absolute():
            return Path(self.source)
        return None


class Manner(FileModel):
    """What stands in :data:`MANNER_FILE` of a model's folder."""

    asked: JsonObject
    """settings by their names: tags, arguments of the chat template, tokens, lengths, ..."""
    base: AdapterBase | None = None
    """where the folder holds adapters"""
    version: str
    """of this package, which wrote it"""

    @classmethod
    def beside(cls, model: Path) -> "Manner | None":
        """That of the model in a folder; None where no run left one.

        Raises:
            UserError: the file is damaged.
        """
        try:
            return cls.read(model / MANNER_FILE)
        except UnreadableFile as error:
            raise UserError(f"{error} (restore it, or delete it and say by flags how the model is asked)") from None

    def write_beside(self, model: Path) -> None:
        """Into a model's folder."""
        self.write(model / MANNER_FILE)
