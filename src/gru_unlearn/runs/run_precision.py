"""In which types a run's weights are stored, trained and computed with, in a line; and what rounding takes from it."""

from gru_unlearn.models.stored_types import stored_types
from gru_unlearn.runs.run_compute_type import COMPUTED_IN
from gru_unlearn.runs.run_preparation import Prepared
from gru_unlearn.training.compute_type import processor_computes_in_bfloat16


def describe_precision(prepared: Prepared) -> str:
    """For example: ``float32 weights (stored as bfloat16), computed with in bfloat16``."""
    words = f"{_type_of_weights(prepared)} weights"
    stored = _stored_type(prepared)
    if stored != _type_of_weights(prepared):
        words += f" (stored as {stored})"
    if prepared.recipe.use_peft:
        words += " below float32 adapters"
    elif prepared.recipe.dtype == "bfloat16":
        words += ", their lower halves kept beside them"
    if prepared.recipe.config.bf16:
        words += ", computed with in bfloat16"
    if COMPUTED_IN in prepared.claim.identity:
        words += f" ({_why_chosen()})"
    return words


def head_line(prepared: Prepared) -> str | None:
    """What a run says of its types before it begins; None where all is float32 and could not be otherwise."""
    if _stored_type(prepared) == _type_of_weights(prepared) == "float32" and not prepared.recipe.config.bf16:
        return None
    return f"Precision: {describe_precision(prepared)}."


def _why_chosen() -> str:
    if processor_computes_in_bfloat16():
        return "this processor has instructions for it; --bf16 false turns it off"
    return "as the run was started; this processor has no instructions for it, and is slow"


def _type_of_weights(prepared: Prepared) -> str:
    if prepared.recipe.load_in_4bit:
        return "4-bit"
    if prepared.recipe.dtype == "auto":
        return _stored_type(prepared)
    return prepared.recipe.dtype


def _stored_type(prepared: Prepared) -> str:
    return next(iter(stored_types(prepared.model.folder)), "float32")
