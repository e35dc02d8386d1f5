"""bfloat16 on processors that have it: chosen by a run itself where nobody says otherwise, and kept where it goes on.

It is decided here and not by ``UnlearningConfig``, because the model's size decides, which that does not know.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import JsonValue

from gru_unlearn.common.processes import decided_by_first
from gru_unlearn.models.stored_types import stored_types
from gru_unlearn.results.run_folder import Identity
from gru_unlearn.runs.recipe import Recipe, computing_in_bfloat16
from gru_unlearn.runs.weight_type import is_narrow, trains_alone
from gru_unlearn.training.compute_type import processor_computes_in_bfloat16

LARGE = 30_000_000
"""Weights from which on it pays: below, a step is many small operations, whose number stays the same."""

COMPUTED_IN = "computed_in"
CHOSEN: Mapping[str, JsonValue] = {COMPUTED_IN: "bfloat16"}
"""What stands in the identity of a run that chose bfloat16 itself. Others have no such key, as in earlier versions."""


def choose_compute_type(
    recipe: Recipe, model: Path, started: Identity | None
) -> tuple[Recipe, Mapping[str, JsonValue]]:
    """The recipe as it will compute, and what its identity says of that.

    Args:
        recipe: whose settings may say it.
        model: the target's folder.
        started: identity of the run that goes on, or that this one must be like. It computes as it began, whatever
            machine this is; None: a new run, which takes what this machine has.
    """
    if recipe.settings.get("bf16") is not None or recipe.config.bf16 or recipe.load_in_4bit:
        return recipe, {}
    chosen = decided_by_first(lambda: _was_chosen(started) if _is_run(started) else _pays(recipe, model))
    if not chosen:
        return recipe, {}
    return replace(recipe, config=computing_in_bfloat16(recipe)), CHOSEN


def _is_run(started: Identity | None) -> bool:
    return started is not None and "settings" in started


def _was_chosen(started: Identity | None) -> bool:
    return started is not None and started.get(COMPUTED_IN) == CHOSEN[COMPUTED_IN]


def _pays(recipe: Recipe, model: Path) -> bool:
    """Whether this machine steps faster so, and sees all of its steps."""
    if recipe.config.device.type != "cpu" or not processor_computes_in_bfloat16():
        return False
    stored = stored_types(model)
    if is_narrow(stored) and not recipe.use_peft and (recipe.dtype == "float32" or not trains_alone(recipe)):
        return False  # as float32 they stand on numbers of bfloat16, which sees nothing of small steps from those
    return sum(stored.values()) >= LARGE
