"""What can be said against a run before anything is loaded or trained."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from transformers.utils.import_utils import is_bitsandbytes_available, is_flash_attn_2_available

from gru_unlearn.data import Record, count_overlap
from gru_unlearn.errors import UserError
from gru_unlearn.models.locating import holds_adapters
from gru_unlearn.runs.keep_best import parse_rule
from gru_unlearn.runs.recipe import Recipe
from gru_unlearn.training.packages import INSTALL, require_packages

FORGET_TARGET = "forget_target"
"""What a rule for the best model calls the retain model's forget probability."""


def check_recipe(recipe: Recipe, sets: Mapping[str, Sequence[Record]]) -> None:
    """Whether a recipe and its rows go together.

    Raises:
        UserError: the first thing that does not.
    """
    if recipe.config.needs_retain_set and "retain" not in sets:
        raise UserError(
            f"rectification {recipe.config.rectification!r} with objective {recipe.config.objective!r} "
            "needs retain data: pass --retain"
        )
    if recipe.stop_when_forgotten and not recipe.retain_model:
        raise UserError("--stop-when-forgotten needs --retain-model, whose forget probability is the mark")
    if not recipe.allow_overlap:
        _check_overlap(sets)
    _check_rule(recipe)
    if recipe.report_examples < 0:
        raise UserError(f"report_examples must be at least 0, got {recipe.report_examples}")


def _check_overlap(sets: Mapping[str, Sequence[Record]]) -> None:
    for one, other in (("forget", "retain"), ("forget", "held_out"), ("held_out", "retain")):
        overlap = count_overlap(sets.get(one, []), sets.get(other, []))
        if overlap:
            raise UserError(
                f"{overlap} of {len(sets[one])} {one} rows are also in the {other} set: "
                "take them out, or pass --allow-overlap"
            )


def _check_rule(recipe: Recipe) -> None:
    """What can be said of --keep-best before any metric exists."""
    if recipe.keep_best is None:
        return
    if FORGET_TARGET in parse_rule(recipe.keep_best).names and not recipe.retain_model:
        raise UserError(f"--keep-best reads {FORGET_TARGET}, which needs --retain-model")
    if recipe.config.eval_strategy == "no":
        raise UserError("--keep-best needs evaluations: add --eval-strategy steps --eval-steps N")


def check_adapters(recipe: Recipe, model: Path) -> None:
    """New adapters need whole weights below them. 4-bit weights are for one device at a time, and stay as they are.

    Raises:
        UserError: the model in this folder does not suit.
    """
    if recipe.use_peft and holds_adapters(model):  # new ones would name the base below these, which would be lost
        raise UserError(f"--model {recipe.model} is a folder of adapters: merge them first (gru export --merge)")
    if not recipe.load_in_4bit:
        return
    if not recipe.use_peft:
        raise UserError("--load-in-4bit trains adapters beside weights that stay as they are: add --use-peft")
    if recipe.config.fsdp or os.environ.get("ACCELERATE_USE_FSDP", "false") == "true":
        raise UserError("--load-in-4bit does not shard: use one device, or DDP with a copy on each")


def check_machine(recipe: Recipe) -> None:
    """What this machine must have for the run; a dry run may be on another one.

    Raises:
        UserError: it is not there.
    """
    require_packages(recipe.config)
    if recipe.load_in_4bit and not is_bitsandbytes_available():
        raise UserError(f"--load-in-4bit needs bitsandbytes, which is missing: {INSTALL}")
    if recipe.attn_implementation == "flash_attention_2" and not is_flash_attn_2_available(kernels_fallback_ok=True):
        raise UserError(
            "--attn-implementation flash_attention_2 needs the package flash-attn and a GPU: leave it away, "
            "PyTorch's own attention (sdpa) is fused too"
        )
