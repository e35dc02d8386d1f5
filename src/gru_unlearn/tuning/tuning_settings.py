"""From what was typed or stands in a recipe to the settings of a fine-tuning."""

from collections.abc import Mapping

from pydantic import JsonValue

from gru_unlearn.common.options import flag_of
from gru_unlearn.errors import UserError
from gru_unlearn.runs.recipe import Recipe, make_recipe
from gru_unlearn.training.on_its_own import AUTO
from gru_unlearn.tuning.no_meaning import check_meaning

DEFAULTS: dict[str, JsonValue] = {
    "output_dir": "runs/finetune",
    "num_train_epochs": 6,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 2,
    "warmup_steps": 0.05,
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "save_total_limit": 1,
}
"""What makes a small model know a few hundred rows: 16 rows a step, six times over, the rate falling to zero.
Checkpoints are there to go on from, so one is enough."""

PLAIN: dict[str, JsonValue] = {"objective": "ga", "rectification": "none"}
"""A step without retain rows and without a rectifier; what it goes down is the trainer's own."""

LORA = ("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "load_in_4bit")

RATES = ((30e6, 1e-3), (300e6, 3e-4), (1e9, 1e-4), (3e9, 3e-5))
"""Most parameters → peak learning rate. Measured: 3e-4 for 135 million (docs/how-to/target-and-retain.md); TOFU's
authors take 1e-5 for 7 billion (config/finetune.yaml of locuslab/tofu). What lies between is interpolated."""
LOWEST_RATE = 1e-5
OF_ADAPTERS, MOST_OF_ADAPTERS = 10, 1e-3
"""Adapters begin as nothing and are learnt faster: so many times the rate of all weights, but no more than this."""


def learning_rate_for(parameters: int, *, adapters: bool) -> float:
    """The peak learning rate of a model of this size, where none was set."""
    fitting = [rate for most, rate in RATES if parameters <= most]
    rate = max([LOWEST_RATE, *fitting])
    if adapters:
        return min(OF_ADAPTERS * rate, MOST_OF_ADAPTERS)
    return rate


def tuning_recipe(settings: Mapping[str, JsonValue], train: str, *, on_any_machine: bool = False) -> Recipe:
    """The recipe of a fine-tuning.

    Args:
        settings: names and values, as for ``gru unlearn``.
        train: what the training rows are called.
        on_any_machine: as in :func:`gru_unlearn.runs.recipe.make_recipe`.

    Raises:
        UserError: a setting that means nothing here, acts on nothing, or has a value that cannot work.
    """
    check_meaning(settings)
    if settings.get("learning_rate") == AUTO:  # here too: by the model's size, as without it
        settings = {name: value for name, value in settings.items() if name != "learning_rate"}
    recipe = make_recipe({**DEFAULTS, **settings, **PLAIN, "forget": train}, on_any_machine=on_any_machine)
    for name in LORA:
        if not recipe.use_peft and settings.get(name) not in (None, False, "false"):
            raise UserError(f"{flag_of(name)} is about adapters: add --use-peft, or leave it out")
    return recipe
