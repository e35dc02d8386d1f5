"""How a model is loaded and asked, so that whoever comes later does it as the run did."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pydantic import JsonValue, TypeAdapter

from gru_unlearn.data import Encoder, TextFormat, encoder_for
from gru_unlearn.models.loading import load_model, load_tokenizer
from gru_unlearn.results.file_model import JsonObject, as_json

_FORMAT = TextFormat()


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Those settings of a run that decide what its models are and what they read."""

    max_length: int = 512
    dtype: str = "auto"
    question_tag: str = _FORMAT.question_tag
    answer_tag: str = _FORMAT.answer_tag
    chat_template_kwargs: Mapping[str, JsonValue] = field(default_factory=lambda: _FORMAT.chat_template_kwargs)
    published_ends: bool = False
    allow_truncation: bool = False
    pad_token: str | None = None
    eos_token: str | None = None
    attn_implementation: str | None = None
    trust_remote_code: bool = False

    @classmethod
    def among(cls, settings: Mapping[str, JsonValue]) -> "ModelSettings":
        """Those that stand among other settings; None is the default."""
        given = {name: value for name, value in settings.items() if value is not None}
        return TypeAdapter(cls).validate_python(given)

    @property
    def asked(self) -> JsonObject:
        """Those that decide how a model is asked, as a run keeps them beside its model."""
        values: JsonObject = as_json({name: getattr(self, name) for name in ASKING})
        return values

    def encoder(self, folder: Path) -> Encoder:
        """Of the tokenizer in a model's folder.

        Raises:
            UserError: there is none, or it lacks a token that nobody named.
        """
        tokenizer = load_tokenizer(
            folder, pad_token=self.pad_token, eos_token=self.eos_token, trust_remote_code=self.trust_remote_code
        )
        return encoder_for(tokenizer, self)

    def model(self, folder: Path, *, load_in_4bit: bool = False) -> Any:
        """The model in a folder, whole.

        Raises:
            UserError: it does not load.
        """
        return load_model(
            folder,
            dtype=self.dtype,
            attn_implementation=self.attn_implementation,
            trust_remote_code=self.trust_remote_code,
            load_in_4bit=load_in_4bit,
        )


_NOT_ASKING = ("dtype", "trust_remote_code")
"""Saved weights have a type of their own, and a file may not say that code is to be run."""

ASKING = tuple(one.name for one in fields(ModelSettings) if one.name not in _NOT_ASKING)
"""Settings that decide how a model is asked."""
