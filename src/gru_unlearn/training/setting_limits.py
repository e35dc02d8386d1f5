"""Which values settings may have, as tables that a program can read, and the checks that follow from them."""

from collections.abc import Collection, Mapping
from typing import Any

import torch

from gru_unlearn.common.options import check_range
from gru_unlearn.errors import UserError, nearest
from gru_unlearn.objectives import OBJECTIVES, RETAIN_LOSSES
from gru_unlearn.training.on_its_own import AUTO

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

POSITIVE = {"finite": True, "above": 0}
NOT_NEGATIVE = {"finite": True, "least": 0}

RANGES: Mapping[str, Mapping[str, object]] = {
    "learning_rate": POSITIVE,
    "new_gradient_weight": {"above": 0, "most": 1},
    "retain_batch_size": {"least": 1},
    "forget_candidates": {"least": 1},
    "retain_every": {"least": 1},
    "retain_weight": NOT_NEGATIVE,
    "weight_decay": NOT_NEGATIVE,
    "max_grad_norm": NOT_NEGATIVE,
    "max_length": {"least": 2},
    "num_train_epochs": POSITIVE,
    "per_device_train_batch_size": {"least": 1},
    "gradient_accumulation_steps": {"least": 1},
    "eval_max_rows": {"least": 1},
    "stop_at_forget_prob": {"between": (0, 1)},
    "go_on_to": {"above": 0, "most": 1},
    "stop_below_kept": {"least": 0, "below": 1},
    "stop_without_progress": {"least": 0},
}
"""Setting → where its number must lie, in the words of :func:`gru_unlearn.common.options.option`."""


def check_choices(config: Any) -> None:
    """Check the settings of a dataclass that are names. None is one if it is the setting's default.

    Raises:
        UserError: a name that is not there; the nearest is named.
    """
    for name, choices in CHOICES.items():
        value, default = getattr(config, name), config.__dataclass_fields__[name].default
        if value not in [*choices, default]:
            raise UserError(f"unknown {name} {value!r}{nearest(str(value), choices)}")


def check_ranges(config: Any) -> None:
    """Check the settings of a dataclass that are numbers.

    Raises:
        UserError: a number outside its range, text, or None where no default or meaning is None.
    """
    for name, about in RANGES.items():
        value, default = getattr(config, name), config.__dataclass_fields__[name].default
        if value is None and default is not None and name != "eval_max_rows":  # there it means all
            raise UserError(f"{name} must be a number, got None")
        if value == AUTO and name == "learning_rate":
            continue
        if isinstance(value, str):
            words = {"learning_rate": "a number or 'auto'"}.get(name, "a number")
            raise UserError(f"{name} must be {words}, got {value!r}")
        check_range(name, value, about)
