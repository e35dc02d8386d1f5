"""Which values settings may have, as tables that a program can read, and the checks that follow from them."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from gru_unlearn.errors import UserError, nearest
from gru_unlearn.objectives import OBJECTIVES, RETAIN_LOSSES

DIRECTION_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

CHOICES: Mapping[str, Collection[str]] = {
    "objective": OBJECTIVES,
    "retain_loss": RETAIN_LOSSES,
    "retain_placement": ("inside", "after"),
    "retain_direction_dtype": DIRECTION_DTYPES,
    "retain_direction_device": ("cpu",),
    "train_sampling_strategy": ("random", "group_by_length"),
}
"""Setting → the names that it may have."""


@dataclass(frozen=True, slots=True)
class Range:
    """Where a number must lie."""

    least: float = -math.inf
    above: float = -math.inf
    most: float = math.inf
    below: float = math.inf
    whole: bool = False
    """whole numbers, so that nothing need be said of infinity"""

    def holds(self, value: float) -> bool:
        """Whether a number lies there. NaN lies nowhere; infinity only where a limit admits it."""
        if not self.whole and not math.isfinite(value):
            return False
        return self.least <= value <= self.most and self.above < value < self.below

    def __str__(self) -> str:
        """In words that follow "must be"."""
        if math.isfinite(self.above) and math.isfinite(self.below):
            return f"between {self.above:g} and {self.below:g}"
        lower = f"above {self.above:g}" if math.isfinite(self.above) else f"at least {self.least:g}"
        if math.isfinite(self.most):
            return f"{lower} and at most {self.most:g}"
        return lower if self.whole else f"finite and {lower}"


RANGES: Mapping[str, Range] = {
    "learning_rate": Range(above=0),
    "new_gradient_weight": Range(above=0, most=1),
    "retain_batch_size": Range(least=1, whole=True),
    "retain_weight": Range(least=0),
    "weight_decay": Range(least=0),
    "max_grad_norm": Range(least=0),
    "max_length": Range(least=2, whole=True),
    "num_train_epochs": Range(above=0),
    "per_device_train_batch_size": Range(least=1, whole=True),
    "gradient_accumulation_steps": Range(least=1, whole=True),
    "eval_max_rows": Range(least=1, whole=True),
    "stop_at_forget_prob": Range(above=0, below=1),
}
"""Setting → where its number must lie."""


def check_choices(config: Any) -> None:
    """Check the settings that are names.

    Args:
        config: a dataclass of settings. None is a value that a setting may have if it is the default.

    Raises:
        UserError: a name that is not there; the nearest is named.
    """
    for name, choices in CHOICES.items():
        value = getattr(config, name)
        if value not in list(choices) and not _is_left_open(config, name):
            raise UserError(f"unknown {name} {value!r}{nearest(str(value), choices)}")


def check_ranges(config: Any) -> None:
    """Check the settings that are numbers. Arguments and None as in :func:`check_choices`.

    Raises:
        UserError: a number outside its range.
    """
    for name, limits in RANGES.items():
        value = getattr(config, name)
        if not _is_left_open(config, name) and not limits.holds(value):
            raise UserError(f"{name} must be {limits}, got {value}")


def _is_left_open(config: Any, name: str) -> bool:
    """Whether a setting is None, and may be."""
    return getattr(config, name) is None and config.__dataclass_fields__[name].default is None
