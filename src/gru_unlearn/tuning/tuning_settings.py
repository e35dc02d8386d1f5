"""From what was typed or stands in a recipe to the settings of a fine-tuning."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from pydantic import JsonValue, TypeAdapter, ValidationError

from gru_unlearn.common.options import flag_of
from gru_unlearn.errors import UserError
from gru_unlearn.runs.recipe import Recipe, make_recipe
from gru_unlearn.training.on_its_own import AUTO
from gru_unlearn.tuning.tuning_options import TuningOptions

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

CHECKPOINTS = frozenset({"save_strategy", "save_steps", "save_total_limit"})
"""Who sets one of these wants checkpoints for more than that."""

PLAIN: dict[str, JsonValue] = {"objective": "ga", "rectification": "none"}
"""A step without retain rows and without a rectifier; what it goes down is the trainer's own."""

NO_MEANING = {
    "forget": "name the rows to learn with --train, those to leave out with --without",
    "retain": "all rows to learn stand under --train",
    "retain_model": "gru finetune makes one, with --without; gru unlearn takes it",
    "base_model": "gru finetune begins with --model",
    "control_rows": "nothing is forgotten here: leave it out",
    "stop_at_forget_prob": "use --stop-at-prob, for what is learnt",
    "keep_best": "the last model is saved; --stop-at-prob ends the run where enough is learnt",
} | dict.fromkeys(
    (
        *("stop_when_forgotten", "stop_below_kept", "stop_without_progress"),
        *("objective", "objective_args", "hidden_module", "alternative_field"),
        *("rectification", "new_gradient_weight", "retain_direction_dtype", "retain_direction_device"),
        *("retain_batch_size", "retain_every", "retain_loss", "retain_weight", "retain_placement"),
    ),
    "a fine-tuning lowers −log p of the answers and nothing else: leave it out",
) | dict.fromkeys(
    ("eval_suite", "eval_data", "eval_forget_split", "eval_unseen_split", "report_examples"),
    "look at the finished model with gru evaluate: leave it out",
)  # fmt: skip
"""Settings of ``gru unlearn`` that mean nothing here → what to do instead."""

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


def with_recipe(options: TuningOptions, settings: Mapping[str, Any]) -> tuple[TuningOptions, dict[str, Any]]:
    """The options under those of a recipe file, whose other settings come back beside them; flags go before the file.

    Raises:
        UserError: an option in the file is not of its kind.
    """
    names = [one.name for one in fields(options)]
    typed = {name: value for name, value in asdict(options).items() if value not in (None, (), False)}
    in_file = {name: settings[name] for name in names if settings.get(name) is not None}
    for name in ("train", "without"):
        if isinstance(in_file.get(name), str):
            in_file[name] = [in_file[name]]
    try:
        merged = TypeAdapter(TuningOptions).validate_python({**in_file, **typed})
    except ValidationError as error:
        problem = error.errors()[0]
        raise UserError(f"{problem['loc'][0]}: {problem['msg'][0].lower()}{problem['msg'][1:]}") from None
    return merged, {name: value for name, value in settings.items() if name not in names}


def tuning_recipe(settings: Mapping[str, JsonValue], train: str, *, on_any_machine: bool = False) -> Recipe:
    """The recipe of a fine-tuning.

    Args:
        settings: names and values, as for ``gru unlearn``.
        train: what the training rows are called.
        on_any_machine: as in :func:`gru_unlearn.runs.recipe.make_recipe`.

    Raises:
        UserError: a setting that means nothing here, acts on nothing, or has a value that cannot work.
    """
    for name in settings:
        if name in NO_MEANING:
            raise UserError(f"{flag_of(name)} has no meaning in gru finetune: {NO_MEANING[name]}")
    if settings.get("learning_rate") == AUTO:  # here too: by the model's size, as without it
        settings = {name: value for name, value in settings.items() if name != "learning_rate"}
    recipe = make_recipe({**DEFAULTS, **settings, **PLAIN, "forget": train}, on_any_machine=on_any_machine)
    for name in LORA:
        if not recipe.use_peft and settings.get(name) not in (None, False, "false"):
            raise UserError(f"{flag_of(name)} is about adapters: add --use-peft, or leave it out")
    return recipe
