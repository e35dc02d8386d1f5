"""What a run settles by itself where its learning rate is auto and nobody said otherwise."""

from collections.abc import Mapping
from typing import Any

AUTO = "auto"

MOST_STEPS = 150
"""Steps of a run that nothing ends before. The step size is made for 10 to 60 of them."""

SAVE_EVERY = 25
"""Steps between two checkpoints, of which one is kept: a run that is killed loses no more."""

CANDIDATES, CANDIDATES_OF_OTHERS = 3, 2
"""Forget rows that are read for each one of a step, which has the least forgotten: with the recommended rectification,
in whatever run, and with others, which keep less by a third."""

WARM_UP = 3
"""Steps: the optimizer's averages are filled before the weights move at full length."""


def settled(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a run, completed by those that follow from ``learning_rate: auto``; others are as they were.

    The rate stays as it is but for what the controller does (:mod:`rate_controller`), the length is at most
    :data:`MOST_STEPS`, the rectification is the recommended one, a step has the least forgotten of
    two or three times as many rows, and there is a checkpoint every :data:`SAVE_EVERY` steps.
    """
    found = dict(settings)
    if found.get("learning_rate") != AUTO:
        return found
    if "lr_scheduler_type" not in found:
        found["lr_scheduler_type"] = "constant_with_warmup"
        found.setdefault("warmup_steps", WARM_UP)
    if "max_steps" not in found and "num_train_epochs" not in found:
        found["max_steps"] = MOST_STEPS
    if "save_strategy" not in found and "save_steps" not in found:
        found["save_steps"] = SAVE_EVERY
        found.setdefault("save_total_limit", 1)
    found.setdefault("rectification", "recommended")
    if found["rectification"] == "recommended":
        found.setdefault("forget_candidates", CANDIDATES)
    found.setdefault("forget_candidates", CANDIDATES_OF_OTHERS)
    return found
