"""The mark of a run, which says how much forgetting is enough: the retain model's, else that of another witness."""

from collections.abc import Sequence
from typing import Literal

from torch import nn

from gru_unlearn.common.options import flag_of
from gru_unlearn.data import Example
from gru_unlearn.errors import UserError
from gru_unlearn.models.loading import free_memory
from gru_unlearn.models.subject import Subject
from gru_unlearn.reporting.mark_words import who_says
from gru_unlearn.reporting.tables import shown
from gru_unlearn.results.mark import Mark
from gru_unlearn.runs.run_models import load_on_device, refuse_broken, require_finite, scores_of, value_of_mark
from gru_unlearn.runs.run_preparation import Prepared

KNOWN = 0.5
"""Mean probability of answers from which on a model may have seen them."""
BETTER = 1.5
"""Times as probable as the target makes them: no accident."""


def other_mark(prepared: Prepared) -> Mark | None:
    """What a base model, control rows or the forget rows themselves say; None where the run asks for none.

    Raises:
        UserError: a model gives no probability, or the base model knows the rows better than the target.
    """
    control, base = prepared.control, prepared.base_model
    if control is not None:
        by: Literal["base_model", "model"] = "model" if base is None else "base_model"
        value = _probability(prepared, base or prepared.model, control.examples)
        if control.is_own_floor:
            return Mark(kind="own_floor", value=value)
        return Mark(kind="control_rows", value=value, scored_by=by)
    if base is not None:
        value = _probability(prepared, base, prepared.examples["forget"])
        _require_unaware(prepared, base, value)
        return Mark(kind="base_model", value=value)
    return None


def mark_of_retain_model(prepared: Prepared, subject: Subject, model: nn.Module) -> Mark:
    """What the retain model says, the surest witness of all.

    Args:
        prepared: the run.
        subject: which model it is.
        model: itself, on the run's device.

    Raises:
        UserError: it gives no probability, or knows the rows better than the target.
    """
    value = value_of_mark(prepared, model, subject, prepared.examples["forget"])
    _require_unaware(prepared, subject, value)
    return Mark(kind="retain_model", value=value)


def ask_base_model(prepared: Prepared) -> None:
    """Give the forget examples their probability to the base model, where there is one beside the retain model that
    gives the mark, and a step's are chosen.

    Raises:
        UserError: it gives none, or knows the rows better than the target.
    """
    base, examples = prepared.base_model, prepared.examples["forget"]
    if base is None or prepared.recipe.config.resolved_forget_candidates == 1:
        return
    model = load_on_device(prepared, base.folder)
    found = scores_of(prepared, model, examples)
    for example, probability in zip(examples, found.probabilities.tolist(), strict=True):
        require_finite(probability, base)
        example["base_probability"] = probability
    del model
    free_memory()
    _require_unaware(prepared, base, found.mean_probability)


def _require_unaware(prepared: Prepared, other: Subject, value: float) -> None:
    """Refuse a model that must not have seen the forget rows and knows them better than the target: two paths are
    easily swapped. ``value`` is its mean probability of the forget answers."""
    if value < KNOWN:
        return
    own = _probability(prepared, prepared.model, prepared.examples["forget"])
    if value > BETTER * own:
        raise UserError(
            f"{flag_of(other.name)} {other.source}: it gives the forget answers a mean probability of {shown(value)}, "
            f"the model {prepared.model.source} only {shown(own)}; name a model that never saw them "
            "(are the two swapped?)"
        )


def _probability(prepared: Prepared, subject: Subject, examples: Sequence[Example]) -> float:
    """A model's, loaded for that alone."""
    model = load_on_device(prepared, subject.folder)
    if subject is prepared.model:
        refuse_broken(prepared, model, prepared.recipe.config.device)
    value = value_of_mark(prepared, model, subject, examples)
    del model
    free_memory()
    return value


def mark_line(mark: Mark | None) -> str | None:
    """What a run tells of its mark before it begins; of the surest one nothing."""
    if mark is None or mark.kind == "retain_model":
        return None
    return f"Enough is forgotten at a mean probability of {shown(mark.value)}: {who_says(mark)}."
