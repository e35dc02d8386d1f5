"""A model that is looked at: found, known by its weights, and loaded when it is needed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue

from gru_unlearn.common.options import flag_of
from gru_unlearn.common.places import PRETRAINED
from gru_unlearn.data import Encoder
from gru_unlearn.errors import UserError, first_line
from gru_unlearn.models.gguf_files import conversion_of
from gru_unlearn.models.loading import empty_model
from gru_unlearn.models.locating import gguf_file, locate
from gru_unlearn.models.manners import settings_for, tell_if_asked_otherwise
from gru_unlearn.models.model_settings import ModelSettings
from gru_unlearn.models.weights import hash_weights, same_weights
from gru_unlearn.results.provenance import ModelSource


@dataclass(eq=False)
class Subject:
    """A model to be looked at: ``model`` as it is, kept until :meth:`release`; :meth:`load` for a copy to change."""

    name: str
    """what it is here: ``model``, ``target``, ``retain_model``, ..."""
    source: str
    folder: Path
    settings: ModelSettings

    @property
    def label(self) -> str:
        """Its name for people."""
        return self.name.replace("_", " ")

    @cached_property
    def sha256(self) -> str:
        """Of the weights."""
        return hash_weights(self.folder)

    @property
    def provenance(self) -> ModelSource:
        """As a summary tells of it."""
        found = ModelSource(source=self.source, sha256=self.sha256)
        if self.is_local:
            found.folder = self.place
        conversion = conversion_of(self.folder)
        if conversion is not None:
            found.converted_from = conversion
        return found

    @property
    def is_local(self) -> bool:
        """Whether its source is a folder or file, and neither a hub model nor one that has a name of its own."""
        return Path(self.source).expanduser().exists()

    @property
    def is_made(self) -> bool:
        """Whether its folder is in the cache, made from its source, as that of a GGUF file."""
        return self.source.startswith(PRETRAINED) or gguf_file(self.source, self.source) is not None

    @property
    def place(self) -> str:
        """Its source, from any working directory; that of a run's folder is its model's."""
        if self.is_made and self.is_local:
            return str(Path(self.source).expanduser().resolve())
        return str(self.folder.resolve()) if self.is_local else self.source

    def is_same_as(self, other: "Subject") -> bool:
        """Whether they are one model, by their folders or their weights."""
        return same_weights(self.folder, other.folder)

    def refuse_as_yardstick(self, retain_model: "Subject") -> None:
        """A model cannot be its own retain model, and no fine-tuning leaves it as it was.

        Raises:
            UserError: it is.
        """
        if self.is_same_as(retain_model):
            raise UserError(
                f"{flag_of(retain_model.name)} {retain_model.source} has the weights of the {self.label} "
                f"{self.source}: name a model that was trained without the forget rows, or none"
            )

    @cached_property
    def encoder(self) -> Encoder:
        """Of the model's own tokenizer, set as its settings say."""
        return self.settings.encoder(self.folder)

    @cached_property
    def model(self) -> Any:
        """The model as it is, for looking only."""
        return self.load()

    def empty(self) -> Any:
        """The model by its configuration alone, on the meta device.

        Raises:
            UserError: it describes none.
        """
        try:
            return empty_model(self.folder, self.settings.trust_remote_code)
        except Exception as error:  # configurations of many architectures raise many types; each becomes one line
            reason = first_line(error)
            raise UserError(f"{self.source}: no causal language model can be made of it ({reason})") from None

    def load(self, dtype: str | None = None) -> Any:
        """A fresh copy, in evaluation mode, on the GPU where there is one."""
        settings = replace(self.settings, dtype=dtype or self.settings.dtype)
        return settings.model(self.folder).to("cuda" if torch.cuda.is_available() else "cpu").eval()

    def release(self) -> None:
        """Let go of ``model``."""
        vars(self).pop("model", None)


def find_subjects(
    given: Mapping[str, JsonValue], flags: Mapping[str, str] | None = None, **sources: str | None
) -> dict[str, Subject]:
    """Name → the model of its source, of those that have one.

    They are compared, so all are loaded and asked alike: as ``given``, else as the run did that wrote the first.

    Args:
        given: settings; None is not given.
        flags: name → the flag by which messages name it, unless it is the name's own.
        sources: name → folder, hub id or built-in model.

    Raises:
        UserError: there is no such model, or none that may be loaded, or the file beside the first is damaged.
    """
    trusted, named = bool(given.get("trust_remote_code")), flags or {}
    folders: dict[str, Path] = {}
    for name, source in sources.items():
        if source:
            flag = named.get(name) or flag_of(name)
            folders[name] = locate(source, flag, trust_remote_code=trusted)
    first, *others = folders.values()
    settings = settings_for(first, given)
    for other in others:
        tell_if_asked_otherwise(other, settings)
    return {name: Subject(name, str(sources[name]), folder, settings) for name, folder in folders.items()}
