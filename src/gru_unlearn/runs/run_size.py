"""How many steps a run has, how many rows a step, and how long it is."""

import math

from gru_unlearn.common.notices import tell
from gru_unlearn.training import UnlearningConfig
from gru_unlearn.training.run_length import batches_an_epoch, steps_an_epoch

FEW_STEPS = 20
"""Fewer steps than these seldom forget anything."""


def passes_a_step(config: UnlearningConfig, rows: int) -> int:
    """Backward passes in a step: an epoch of few rows ends before the accumulation window is full."""
    return min(config.gradient_accumulation_steps, batches_an_epoch(config, rows))


def steps_of(config: UnlearningConfig, rows: int) -> int:
    """Optimizer steps of a run on one device, if nothing ends it before."""
    if config.max_steps > 0:
        return config.max_steps
    return math.ceil(steps_an_epoch(config, rows) * config.num_train_epochs)


def steps_in_words(config: UnlearningConfig, rows: int) -> str:
    """How many steps, for people."""
    steps = steps_of(config, rows)
    return f"at most {steps}" if config.on_its_own else str(steps)


def rate_in_words(config: UnlearningConfig) -> str:
    """The learning rate, for people, before a run."""
    if config.on_its_own:
        return "auto: found by a step on trial before the first one, and kept right along the run"
    return f"{config.learning_rate:g}"


def tell_of_few_steps(config: UnlearningConfig, rows: int) -> None:
    """A few rows in large windows make few steps, and few steps forget nothing: better said before than seen behind."""
    steps = steps_of(config, rows)
    if config.max_steps > 0 or steps >= FEW_STEPS:
        return
    tell(
        f"{steps} steps in all for {rows} forget rows may forget nothing: --gradient-accumulation-steps 1 makes more "
        "of them, and so does --num-train-epochs"
    )
