"""The encoder that settings describe, wherever they stand: a run's configuration, or what a model is asked with."""

from dataclasses import fields
from typing import Protocol

from transformers import PreTrainedTokenizerBase

from gru_unlearn.data.encoding import Encoder
from gru_unlearn.data.rendering import TextFormat


class EncoderSettings(Protocol):
    """The settings of an :class:`Encoder`, and under their own names those of its :class:`TextFormat`."""

    @property
    def max_length(self) -> int:
        """Most tokens of an example."""

    @property
    def allow_truncation(self) -> bool:
        """Whether an answer may be cut."""


def encoder_for(tokenizer: PreTrainedTokenizerBase, settings: EncoderSettings) -> Encoder:
    """The encoder that settings describe; None, or a setting that is not there, is the default.

    Raises:
        UserError: the tokenizer has no end-of-sequence or padding token.
    """
    named = {one.name: getattr(settings, one.name, None) for one in fields(TextFormat)}
    given = {name: value for name, value in named.items() if value is not None}
    return Encoder(
        tokenizer,
        max_length=settings.max_length,
        text_format=TextFormat(**given),
        allow_truncation=settings.allow_truncation,
    )
