"""LoRA adapters on a model, as a recipe says."""

from typing import TYPE_CHECKING, Any

from gru_unlearn.errors import UserError, first_line
from gru_unlearn.models.shared_weights import require_mergeable
from gru_unlearn.runs.recipe import Recipe

if TYPE_CHECKING:
    from peft import PeftModel


def add_adapters(model: Any, recipe: Recipe) -> "PeftModel":
    """The model with new adapters, which alone are trained.

    Raises:
        UserError: ``lora_target_modules``, or one of several names in it, matches no module that can have one, or
            embeddings that are the output head as well.
    """
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415 - slow to import

    wanted = recipe.lora_target_modules
    lora = LoraConfig(
        r=recipe.lora_r,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules=wanted,
        task_type="CAUSAL_LM",
    )
    if isinstance(wanted, list):
        _check_names(wanted, model)
    try:
        adapted: PeftModel = get_peft_model(model, lora)
        require_mergeable(adapted)
    except ValueError as error:
        raise UserError(first_line(error)) from None
    return adapted


def _check_names(wanted: list[str], model: Any) -> None:
    """PEFT is content if one of the names is found, and says nothing of the others."""
    names = [name for name, _ in model.named_modules() if name]
    for one in wanted:
        if not any(name == one or name.endswith(f".{one}") for name in names):
            some = ", ".join(sorted({name.rpartition(".")[2] for name in names})[:12])
            raise UserError(f"--lora-target-modules {one} is found in no module; their names end in {some}, ...")
