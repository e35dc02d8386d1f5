"""Settings that are one of a closed list of names: which those are, and which of them are refused with a reason."""

from enum import Enum
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from transformers import TrainingArguments
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from gru_unlearn.errors import UserError, nearest
from gru_unlearn.training.inherited_settings import REFUSED_VALUES

NO_FLOAT16 = (
    "dtype float16: gradients and steps overflow or vanish in it; leave --dtype away and float16 checkpoints are "
    "trained in float32, or pass --dtype bfloat16"
)

_LISTED = ("log_level", "log_level_replica", "dataloader_multiprocessing_context")
"""Text by their type, and a closed list by what transformers says of them."""


def choices_of(name: str, kind: Any) -> list[str] | None:
    """The names that a setting may have; None where it may be something else than a name of a list.

    Args:
        name: of the setting.
        kind: its type.
    """
    if name == "report_to":
        return ["none", "all", *INTEGRATION_TO_CALLBACK]
    if name in _LISTED:
        return list(TrainingArguments.__dataclass_fields__[name].metadata["choices"])
    names = _members(kind) or _words(kind)
    return [one for one in names if one not in refused_values(name)] or None


def refused_values(name: str) -> dict[str, str]:
    """Names that people ask for and that have no place here → the message."""
    if name == "dtype":
        return {"float16": NO_FLOAT16}
    return {value: f"{name} {value} has no place here: {why}" for value, why in REFUSED_VALUES.get(name, {}).items()}


def check_name(name: str, kind: Any, value: str) -> None:
    """Whether a setting may have this name.

    Raises:
        UserError: it may not; the nearest that it may have is named.
    """
    refused, choices = refused_values(name), choices_of(name, kind)
    if value in refused:
        raise UserError(refused[value])
    if choices is not None and value not in choices:
        raise UserError(f"unknown {name} {value!r}{nearest(value, choices)}")


def _members(kind: Any) -> list[str]:
    """Of an enumeration, which transformers joins with text."""
    for part in get_args(kind):
        if isinstance(part, type) and issubclass(part, Enum):
            return [str(member.value) for member in part]
    return []


def _words(kind: Any) -> list[str]:
    """Of a type that has no values but words (and None)."""
    parts = [kind] if get_origin(kind) is Literal else [part for part in get_args(kind) if part is not NoneType]
    if not parts or any(get_origin(part) is not Literal for part in parts):
        return []
    return [word for part in parts for word in get_args(part) if isinstance(word, str)]
