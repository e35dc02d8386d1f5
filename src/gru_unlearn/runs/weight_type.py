"""In which type a run's weights are trained, where nobody set it."""

from collections.abc import Mapping
from pathlib import Path

from gru_unlearn.models.stored_types import stored_types
from gru_unlearn.runs.recipe import Recipe, WeightType

NARROW = ("bfloat16", "float16")


def weight_type(recipe: Recipe, folder: Path) -> WeightType:
    """The type of a model's weights in a run: as set, else float32, with two exceptions.

    Weights below adapters keep the checkpoint's type, unless that is float16. And a checkpoint of 16 bits that is
    computed with in bfloat16 keeps bfloat16 weights, their lower halves beside them
    (:mod:`gru_unlearn.training.weight_pairs`). Its numbers, as float32, all stand on bfloat16 numbers or half way
    between two of them: a computation in bfloat16 sees nothing of a small step from the one, and too much of one from
    the other.
    """
    if recipe.dtype != "auto":
        return recipe.dtype
    stored = stored_types(folder)
    if recipe.use_peft:
        return "float32" if "float16" in stored else "auto"
    if recipe.config.bf16 and trains_alone(recipe) and is_narrow(stored):
        return "bfloat16"
    return "float32"


def is_narrow(stored: Mapping[str, int]) -> bool:
    """Whether most weights are stored in 16 bits."""
    few = sum(stored.get(name, 0) for name in NARROW)
    return 2 * few > sum(stored.values())


def trains_alone(recipe: Recipe) -> bool:
    """Whether one process holds all weights, so that lower halves can stand beside them."""
    return recipe.config.world_size == 1 and not recipe.config.fsdp
