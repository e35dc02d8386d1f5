"""In which types a run's weights are stored, trained and computed with, in a line; and what rounding takes from it."""

from gru_unlearn.models.stored_types import stored_types
from gru_unlearn.runs.run_preparation import Prepared
from gru_unlearn.training.compute_type import processor_computes_in_bfloat16

LARGE = 30_000_000
"""Weights from which on computing in bfloat16 pays on a processor that can."""


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
    return words


def head_line(prepared: Prepared) -> str | None:
    """What a run says of its types before it begins; None where all is float32 and could not be otherwise."""
    plain = _stored_type(prepared) == _type_of_weights(prepared) == "float32" and not prepared.recipe.config.bf16
    lines = [] if plain else [f"Precision: {describe_precision(prepared)}."]
    if _gains_from_bfloat16(prepared):
        lines.append("This processor has instructions for bfloat16: --bf16 takes about half the time for a step.")
    return " ".join(lines) or None


def _type_of_weights(prepared: Prepared) -> str:
    if prepared.recipe.load_in_4bit:
        return "4-bit"
    if prepared.recipe.dtype == "auto":
        return _stored_type(prepared)
    return prepared.recipe.dtype


def _stored_type(prepared: Prepared) -> str:
    return next(iter(stored_types(prepared.model.folder)), "float32")


def _gains_from_bfloat16(prepared: Prepared) -> bool:
    config = prepared.recipe.config
    if config.bf16 or "bf16" in prepared.recipe.settings or config.device.type != "cpu":
        return False
    return sum(stored_types(prepared.model.folder).values()) >= LARGE and processor_computes_in_bfloat16()
