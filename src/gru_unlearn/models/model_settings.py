"""How a model is loaded and asked, so that whoever comes later does it as the run did."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import JsonValue, TypeAdapter

from gru_unlearn.data import Encoder, TextFormat
from gru_unlearn.models.loading import load_model, load_tokenizer

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

    def encoder(self, folder: Path) -> Encoder:
        """Of the tokenizer in a model's folder.

        Raises:
            UserError: there is none, or it lacks a token that nobody named.
        """
        tokenizer = load_tokenizer(
            folder, pad_token=self.pad_token, eos_token=self.eos_token, trust_remote_code=self.trust_remote_code
        )
        text_format = TextFormat(self.question_tag, self.answer_tag, self.chat_template_kwargs, self.published_ends)
        return Encoder(
            tokenizer, max_length=self.max_length, text_format=text_format, allow_truncation=self.allow_truncation
        )

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
