"""A model under attack, and how it is loaded and asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue, TypeAdapter

from gru_unlearn.data import Encoder, TextFormat
from gru_unlearn.evaluation.cache import hash_weights
from gru_unlearn.models.loading import load_model, load_tokenizer

_FORMAT = TextFormat()


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """How a model is loaded and asked; for attacks on a run as the run did it."""

    max_length: int = 512
    dtype: str = "auto"
    question_tag: str = _FORMAT.question_tag
    answer_tag: str = _FORMAT.answer_tag
    chat_template_kwargs: Mapping[str, JsonValue] | None = None
    allow_truncation: bool = False
    pad_token: str | None = None
    eos_token: str | None = None
    attn_implementation: str | None = None
    trust_remote_code: bool = False

    @classmethod
    def among(cls, settings: Mapping[str, JsonValue]) -> "ModelSettings":
        """Those that stand among the settings of a run; None is the default."""
        given = {name: value for name, value in settings.items() if value is not None}
        return TypeAdapter(cls).validate_python(given)

    @property
    def text_format(self) -> TextFormat:
        """How a conversation becomes text."""
        kwargs = self.chat_template_kwargs or _FORMAT.chat_template_kwargs
        return TextFormat(self.question_tag, self.answer_tag, kwargs)


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
        settings = self.settings
        tokenizer = load_tokenizer(
            self.folder,
            pad_token=settings.pad_token,
            eos_token=settings.eos_token,
            trust_remote_code=settings.trust_remote_code,
        )
        return Encoder(
            tokenizer,
            max_length=settings.max_length,
            text_format=settings.text_format,
            allow_truncation=settings.allow_truncation,
        )

    @cached_property
    def model(self) -> Any:
        """The model as it is, for looking only."""
        return self.load()

    def load(self, dtype: str | None = None) -> Any:
        """A fresh copy, in evaluation mode, on the GPU where there is one."""
        model: Any = load_model(
            self.folder,
            dtype=dtype or self.settings.dtype,
            attn_implementation=self.settings.attn_implementation,
            trust_remote_code=self.settings.trust_remote_code,
        )
        return model.to("cuda" if torch.cuda.is_available() else "cpu").eval()

    def release(self) -> None:
        """Let go of ``model``."""
        vars(self).pop("model", None)
