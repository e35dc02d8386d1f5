"""The footing of a run on its own: how many rows make a step, how many of them pass at once, and, only where memory
does not allow that for all weights, checkpointing or adapters; then how often it evaluates, on how many rows.

Memory is what ``gru plan`` calculates, against what the device has left. What was chosen is a part of the run's
identity: a run that goes on elsewhere goes on as it began.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from pydantic import JsonValue
from transformers.trainer_utils import IntervalStrategy

from gru_unlearn.common.notices import tell
from gru_unlearn.common.processes import decided_by_first
from gru_unlearn.data import Example
from gru_unlearn.evaluation.rows import Suite
from gru_unlearn.models.subject import Subject
from gru_unlearn.reporting.tables import plural
from gru_unlearn.results.run_folder import Identity
from gru_unlearn.runs.evaluation_schedule import schedule_for
from gru_unlearn.runs.own_choice import left_to_run
from gru_unlearn.runs.recipe import Recipe
from gru_unlearn.runs.step_memory import Footing, footing_for
from gru_unlearn.runs.weight_type import weight_type
from gru_unlearn.training.method import rows_of_a_step

FOOTING = "footing"
"""Key of an identity: the settings that the run chose."""

AT_ONCE = 16
"""Forget rows that make a step: more cost more time, and hardly make a better one."""

Chosen = Mapping[str, JsonValue]
Sets = Mapping[str, Sequence[Example]]


def rows_a_step(rows: int) -> int:
    """Of so many forget rows: all, or even parts of them."""
    return math.ceil(rows / math.ceil(rows / AT_ONCE))


def find_footing(
    recipe: Recipe, model: Subject, sets: Sets, suite: Suite | None, like: Identity | None
) -> tuple[Recipe, Chosen]:
    """The recipe with whatever was left to the run, and what its identity says of that.

    Args:
        recipe: whose settings may leave something open.
        model: the target; the type of its weights is changed where adapters are chosen.
        sets: the rows, tokenized.
        suite: that is measured at every evaluation.
        like: identity of the run that goes on, or that this one must be like; None: a new run.
    """
    if not recipe.config.on_its_own:
        return recipe, {}
    chosen = decided_by_first(lambda: _as_begun(like) or _chosen_for(recipe, model, sets, suite))
    return _on(recipe, model, chosen), {FOOTING: chosen}  # type: ignore[dict-item]  # a mapping of JSON is JSON


def footing_line(recipe: Recipe) -> str | None:
    """What a run on its own does, before it begins; None where it is not."""
    config = recipe.config
    if not config.on_its_own:
        return None
    at_once, passes = config.per_device_train_batch_size, config.gradient_accumulation_steps
    words = f"On its own: {plural(at_once * passes * config.world_size, 'forget row')} a step"
    if passes > 1:
        words += f", {at_once} at once"
    if config.eval_strategy == "steps":
        rows = "all"
        if config.eval_max_rows is not None:
            rows = f"at most {config.eval_max_rows}"
        words += f"; every {config.eval_steps:.0f} steps an evaluation on {rows} rows of each set"
    return f"{words}."


def _as_begun(like: Identity | None) -> Chosen | None:
    found = (like or {}).get(FOOTING)
    if isinstance(found, Mapping):
        return found
    return None


def _on(recipe: Recipe, model: Subject, chosen: Chosen) -> Recipe:
    """A recipe with settings that were chosen for it, its configuration changed."""
    own = {one.name for one in fields(recipe)}
    for name in chosen.keys() - own:
        setattr(recipe.config, name, chosen[name])
    recipe.config.gradient_checkpointing = recipe.config.activation_checkpointing  # its old name
    recipe.config.eval_strategy = IntervalStrategy(recipe.config.eval_strategy)
    recipe.config.do_eval = recipe.config.eval_strategy != IntervalStrategy.NO
    changed: dict[str, Any] = {name: value for name, value in chosen.items() if name in own}
    if changed.get("use_peft") and left_to_run(recipe, "dtype"):
        recipe = replace(recipe, use_peft=True, dtype="auto")
        changed["dtype"] = weight_type(recipe, model.folder)
        model.settings = replace(model.settings, dtype=changed["dtype"])
    return replace(recipe, **changed)


def _chosen_for(recipe: Recipe, model: Subject, sets: Sets, suite: Suite | None) -> Chosen:
    footing = footing_for(recipe, model, sets, rows_a_step(len(sets["forget"])))
    chosen: dict[str, JsonValue] = {}
    for one in fields(Footing):
        chosen[one.name] = getattr(footing, one.name)
    if left_to_run(recipe, "eval_strategy"):
        chosen |= _evaluations(_on(recipe, model, chosen), sets, suite)
    elif recipe.config.eval_strategy == "no":
        tell("eval_strategy no: without evaluations the run goes to its last step, and the last model is saved")
        return chosen
    if not recipe.config.eval_on_start:
        tell("eval_on_start false: the model before is not measured, so nothing says when too much of the rest is lost")
    if left_to_run(recipe, "stop_when_forgotten") and left_to_run(recipe, "stop_at_forget_prob"):
        chosen["stop_when_forgotten"] = True
    return chosen


def _evaluations(recipe: Recipe, sets: Sets, suite: Suite | None) -> dict[str, JsonValue]:
    """Strategy, and how often on how many rows, as far as that was not set."""
    config, sizes = recipe.config, [len(rows) for rows in sets.values()]
    rows: int | None = 0
    if not left_to_run(recipe, "eval_max_rows"):
        rows = config.eval_max_rows
    steps = None
    if not left_to_run(recipe, "eval_steps"):
        steps = int(config.eval_steps or 1)
    of_suite = 0
    if suite is not None:
        of_suite = sum(len(row_set.items) for row_set in suite.sets.values())
    schedule = schedule_for(sizes, rows_of_a_step(config), rows=rows, steps=steps, suite_rows=of_suite)
    return {"eval_strategy": "steps", "eval_max_rows": schedule.rows, "eval_steps": schedule.steps}
