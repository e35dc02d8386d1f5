"""A model under attack."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from gru_unlearn.data import Encoder
from gru_unlearn.models.model_settings import ModelSettings
from gru_unlearn.models.weights import hash_weights


@dataclass(eq=False)
class Subject:
    """A model under attack: ``model`` as it is, kept until :meth:`release`; :meth:`load` for a copy to change."""

    name: str
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

    @cached_property
    def encoder(self) -> Encoder:
        """Of the model's own tokenizer, set as the run's was."""
        return self.settings.encoder(self.folder)

    @cached_property
    def model(self) -> Any:
        """The model as it is, for looking only."""
        return self.load()

    def load(self, dtype: str | None = None) -> Any:
        """A fresh copy, in evaluation mode, on the GPU where there is one."""
        settings = self.settings if dtype is None else replace(self.settings, dtype=dtype)
        return settings.model(self.folder).to("cuda" if torch.cuda.is_available() else "cpu").eval()

    def release(self) -> None:
        """Let go of ``model``."""
        vars(self).pop("model", None)
