"""The mark of a run without a retain model: what says how much forgetting is enough, the surest witness first."""

from collections.abc import Sequence
from typing import Literal

from gru_unlearn.common.sequences import evenly_spread
from gru_unlearn.data import Example
from gru_unlearn.models.loading import free_memory
from gru_unlearn.models.subject import Subject
from gru_unlearn.reporting.mark_words import who_says
from gru_unlearn.reporting.tables import shown
from gru_unlearn.results.mark import Mark
from gru_unlearn.runs.run_models import load_on_device, refuse_broken, require_finite, scores_of, value_of_mark
from gru_unlearn.runs.run_preparation import Prepared
from gru_unlearn.training.least_forgotten import base_probabilities


def other_mark(prepared: Prepared) -> Mark | None:
    """What a base model, control rows or the forget rows themselves say; None where the run asks for none.

    Raises:
        UserError: a model gives no probability.
    """
    ask_base_model(prepared)
    control, base = prepared.control, prepared.base_model
    if control is not None:
        by: Literal["base_model", "model"] = "model" if base is None else "base_model"
        value = _probability(prepared, base or prepared.model, control.examples)
        if control.is_own_floor:
            return Mark(kind="own_floor", value=value)
        return Mark(kind="control_rows", value=value, scored_by=by)
    if base is not None:
        rows = evenly_spread(prepared.examples["forget"], prepared.recipe.config.eval_max_rows)
        return Mark(kind="base_model", value=base_probabilities(rows).mean().item())
    return None


def ask_base_model(prepared: Prepared) -> None:
    """Give forget examples their probability to the base model, if there is one and somebody wants to know.

    Raises:
        UserError: it gives none.
    """
    base, asked = prepared.base_model, _asked_of_base(prepared)
    if base is None or not asked:
        return
    model = load_on_device(prepared, base.folder)
    probabilities = scores_of(prepared, model, asked).probabilities.tolist()
    for example, probability in zip(asked, probabilities, strict=True):
        require_finite(probability, base)
        example["base_probability"] = probability
    del model
    free_memory()


def _asked_of_base(prepared: Prepared) -> list[Example]:
    """All forget examples where a step's are chosen by what it says; else those that its mark is read off."""
    examples, config = prepared.examples["forget"], prepared.recipe.config
    if config.resolved_forget_candidates > 1:
        return examples
    return [] if prepared.retain_model is not None else evenly_spread(examples, config.eval_max_rows)


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
