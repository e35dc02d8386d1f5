"""The rows that give a run its mark where no retain model is: control rows as given, or made of the forget rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from gru_unlearn.common.notices import tell
from gru_unlearn.data import Encoder, Example, Record, check_apart, fingerprint, load_records
from gru_unlearn.data.control_rows import make_control_rows, worded_alike
from gru_unlearn.errors import UserError
from gru_unlearn.models.subject import Subject
from gru_unlearn.runs.best_rule import parse_rule
from gru_unlearn.runs.recipe import Recipe
from gru_unlearn.runs.rule_names import FORGET_TARGET
from gru_unlearn.runs.setting_names import MADE

ENOUGH = 0.5
"""Share of the forget rows of which a control row can be made; with fewer the others' mean is not known."""
ALIKE = 0.5
"""Share of given control rows that may be worded as forget rows are."""


@dataclass(frozen=True, slots=True)
class ControlSet:
    """Control rows, and their examples."""

    records: Sequence[Record]
    examples: Sequence[Example]
    is_own_floor: bool = False
    """made, and scored by the model itself"""


def control_records(recipe: Recipe, sets: Mapping[str, Sequence[Record]]) -> list[Record] | None:
    """The control rows of a recipe; None where it needs none.

    Raises:
        UserError: there are none, or they are among other rows, or a mark is needed and cannot be had.
    """
    if recipe.control_rows == MADE:
        return _made(recipe, sets["forget"])
    if recipe.control_rows is not None:
        return _given(recipe, sets)
    if recipe.retain_model or recipe.base_model or not wants_mark(recipe):
        return None
    found = make_control_rows(sets["forget"])
    if len(found) >= ENOUGH * len(sets["forget"]):
        return found
    if must_have_mark(recipe):
        raise UserError(
            "nothing says how much is enough, and in the forget rows no names or numbers stand of which control rows "
            "could be made: pass --retain-model, --base-model, --control-rows FILE or --stop-at-forget-prob P"
        )
    return None


def _made(recipe: Recipe, forget: Sequence[Record]) -> list[Record]:
    if not recipe.base_model:
        raise UserError(
            "--control-rows made needs --base-model: the model itself completes such rows from what it knows; or name "
            "a file of rows that the model never saw"
        )
    found = make_control_rows(forget)
    if len(found) < ENOUGH * len(forget):
        raise UserError(
            f"--control-rows made: only {len(found)} of {len(forget)} forget rows have names or numbers to swap: name "
            "a file of such rows, or leave it out, and the base model's own probability is the mark"
        )
    return found


def _given(recipe: Recipe, sets: Mapping[str, Sequence[Record]]) -> list[Record]:
    rows = load_records(str(recipe.control_rows))
    others = {**sets, "control": rows}
    pairs = [("control", name) for name in sets]
    check_apart(others, pairs, "control rows are of the same form, and about what no model knows")
    alike = worded_alike(rows, sets["forget"])
    if not recipe.base_model and alike > ALIKE * len(rows):
        tell(
            f"--control-rows {recipe.control_rows}: {alike} of {len(rows)} rows are worded as forget rows are. Were "
            "they made of these, the model completes them from what it knows, and the mark is too high: --base-model "
            "scores them without"
        )
    return rows


def make_control_set(recipe: Recipe, records: Sequence[Record] | None, encoder: Encoder) -> ControlSet | None:
    """The same, tokenized."""
    if records is None:
        return None
    examples = encoder.encode_all(records, "control rows")
    return ControlSet(records, examples, is_own_floor=recipe.control_rows is None)


def with_controls(examples: Mapping[str, list[Example]], control: ControlSet | None) -> dict[str, list[Example]]:
    """All sets of a run and its control rows."""
    if control is None:
        return dict(examples)
    return {**examples, "control rows": list(control.examples)}


def identity_of_mark(base_model: Subject | None, control: ControlSet | None) -> dict[str, JsonValue]:
    """What was named to give the mark; a run that names nothing is the run that it was in earlier versions."""
    found: dict[str, JsonValue] = {}
    if base_model is not None:
        found["base_model"] = base_model.sha256
    if control is not None and not control.is_own_floor:
        found["control_rows"] = fingerprint(control.records)
    return found


# --- who wants a mark ------------------------------------------------------------------------------------------------


def names_mark(recipe: Recipe) -> bool:
    """Whether a model or rows are named that give one."""
    return bool(recipe.retain_model or recipe.base_model or recipe.control_rows)


def must_have_mark(recipe: Recipe) -> bool:
    """Whether something that was set cannot be without one."""
    return recipe.stop_when_forgotten or _rule_reads_mark(recipe)


def wants_mark(recipe: Recipe) -> bool:
    """Whether a mark is looked for where none is named: what was set needs it, or the run decides by itself."""
    return must_have_mark(recipe) or recipe.config.on_its_own


def _rule_reads_mark(recipe: Recipe) -> bool:
    return recipe.keep_best is not None and FORGET_TARGET in parse_rule(recipe.keep_best).names
