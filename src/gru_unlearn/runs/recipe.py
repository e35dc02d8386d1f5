"""A recipe: everything one unlearning run needs to know, from a YAML file, from flags, or both."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_type_hints

import torch
from pydantic import JsonValue, TypeAdapter, ValidationError

from gru_unlearn.common.options import check_range, option
from gru_unlearn.common.renamed import renamed_settings, warn_of_old_names
from gru_unlearn.errors import UserError, first_line
from gru_unlearn.runs.best_rule import rule_text
from gru_unlearn.runs.setting_choices import check_name
from gru_unlearn.runs.setting_names import check_names
from gru_unlearn.training import UnlearningConfig
from gru_unlearn.training.word_for_word import MOST_ASKED

WeightType = Literal["auto", "float32", "bfloat16"]
SuiteAlong = Literal["own", "builtin", "tofu", "muse"]
RetainChoice = Literal["all", "near", "spread"]
SUITES_ALONG = get_args(SuiteAlong)
"""Suites that may be measured along a run."""


@dataclass(frozen=True)
class Recipe:
    """Settings of a run. All other names that a recipe may contain are fields of ``UnlearningConfig``."""

    config: UnlearningConfig
    model: str = option(
        "Model to unlearn from: a folder, a .gguf file, a hub id, pretrained:smollm2-135m, or builtin:target."
    )
    forget: str = option("What to forget: a file, FOLDER:NAME, a hub data set, or builtin:forget.")
    retain: str | None = option("What must stay; likewise; or made: rows that the model makes itself.", None)
    train_rows: str | None = option(
        "What the model was trained on, in place of retain: of these rows, those that are no forget rows must stay.",
        None,
    )
    made_rows: int = option("Rows that the model makes itself where retain is 'made'.", 256, least=16)
    retain_choice: RetainChoice = option(
        "Which retain rows of a large set a run draws from: all; near: half of them the nearest to the forget rows, "
        "half evenly spread; spread: evenly spread.",
        "all",
    )
    held_out: str | None = option(
        "Rows that must stay and that no step ever sees; a run on its own sets some retain rows aside.", None
    )
    retain_model: str | None = option("A model trained without the forget set: gives the mark of enough.", None)
    base_model: str | None = option(
        "The model before it was fine-tuned: gives the mark where no retain model is; beside one, what it would guess "
        "of the forget rows is taken off before a step's are chosen.",
        None,
    )
    control_rows: str | None = option(
        "Rows of the forget rows' form about what no model knows: a file, or made (the forget rows with invented names "
        "and numbers). Their probability to the base model, else to the model itself, is the mark.",
        None,
    )
    stop_when_forgotten: bool = option(
        "Stop at the mark: the retain model's forget probability, else the base model's, else that of control rows, "
        "else the rows' own floor. With learning_rate auto it holds by itself, and go_on_to says how far beyond.",
        False,
    )
    eval_suite: SuiteAlong | None = option(
        "Run all metrics of this suite at every evaluation too: own (this run's rows), builtin, ...", None
    )
    eval_data: str | None = option("Data of eval_suite, as --data of gru evaluate.", None)
    eval_forget_split: str = option("Forget split of eval_suite tofu.", "forget10")
    eval_unseen_split: str | None = option("Split of eval_suite tofu with rows that no model saw.", None)
    keep_best: str | None = option(
        "Save the best model by a rule instead of the last one, for example: "
        "maximize: model_utility, where: {forget_prob: {at_most: forget_target}} (the mark's value).",
        None,
    )
    use_peft: bool = option("Train LoRA adapters instead of all weights.", False)
    lora_r: int = option("LoRA's rank.", 16, least=1)
    lora_alpha: int = option("LoRA's α.", 32, least=1)
    lora_dropout: float = option("LoRA's dropout.", 0.0, least=0, below=1)
    lora_target_modules: list[str] | str | None = option("Modules that get adapters, comma-separated.", "all-linear")
    load_in_4bit: bool = option(
        "QLoRA: keep the model in 4 bits (NF4) under the adapters; needs use_peft and bitsandbytes.", False
    )
    dtype: WeightType = option(
        "Weights' type: float32; bfloat16, each with its lower half beside it, so that it is stepped as float32; auto: "
        "bfloat16 for checkpoints of 16 bits that are computed with in bfloat16, else float32; below adapters the "
        "checkpoint's.",
        "auto",
    )
    attn_implementation: str | None = option("eager, sdpa, flash_attention_2.", None)
    trust_remote_code: bool = option("Run code that comes with a model. Off.", False)
    pad_token: str | None = option("For tokenizers without a padding token.", None)
    eos_token: str | None = option("For tokenizers without an end-of-sequence token.", None)
    allow_overlap: bool = option("Accept rows that are in both forget and retain.", False)
    report_examples: int = option(
        "Rows of each set that the report shows one by one, before and after; 0: none.", MOST_ASKED
    )
    settings: Mapping[str, JsonValue] = field(default_factory=dict)
    """what was set explicitly, checked and converted: two runs with equal settings, data and model are the same run"""

    @property
    def in_force(self) -> dict[str, JsonValue]:
        """All settings that hold, set or not, ready for JSON: ours first."""
        own = {name: getattr(self, name) for name in _OWN}
        return own | {name: value for name, value in self.config.to_dict().items() if value is not None}


_OWN = {one.name: one for one in dataclasses.fields(Recipe) if one.name not in ("config", "settings")}
_CONFIG = {one.name: one for one in dataclasses.fields(UnlearningConfig) if one.init}
_TYPES = get_type_hints(UnlearningConfig) | get_type_hints(Recipe) | {"learning_rate": float | Literal["auto"]}

# --- names -----------------------------------------------------------------------------------------------------------


def setting_names() -> list[str]:
    """Every name that a recipe or a flag may set: those of this project first, then those of ``TrainingArguments``."""
    ours = [name for name in (*_OWN, *UnlearningConfig.__annotations__) if name in _OWN or name in _CONFIG]
    return [*ours, *sorted(_CONFIG.keys() - set(ours))]


def kind_of(name: str) -> Any:
    """A setting's type."""
    return _TYPES[name]


def is_switch(name: str) -> bool:
    """Whether a setting may be true or false."""
    return kind_of(name) is bool or bool in get_args(kind_of(name))


def describe_setting(name: str) -> tuple[str, str]:
    """A setting's default and help, for showing."""
    setting = _OWN.get(name) or _CONFIG[name]
    help_text = " ".join(str(setting.metadata.get("help", "")).replace("%%", "%").split())
    if setting.default in (dataclasses.MISSING, None):
        return "", help_text
    return str(setting.default).replace("\n", "\\n"), help_text


# --- values ----------------------------------------------------------------------------------------------------------


def make_recipe(settings: Mapping[str, JsonValue], *, on_any_machine: bool = False) -> Recipe:
    """Check and convert settings; values may be text, as they come from flags.

    Args:
        settings: names and values.
        on_any_machine: do not ask whether this machine has the device that the settings need (for dry runs).

    Raises:
        UserError: an unknown setting (the nearest is named), a value of the wrong kind, a missing model or forget set.
    """
    check_names(settings, setting_names())
    if settings.get("hub_token"):  # it would stand in the list of processes and in run.json
        raise UserError("hub_token: secrets are not settings; log in with `hf auth login`, or set HF_TOKEN")
    checked = {name: _convert(name, value) for name, value in renamed_settings(settings).items()}
    for name in ("model", "forget"):
        if not checked.get(name):
            raise UserError(f"no {name} given: pass --{name}, or set it in the recipe")
    _check_ranges(checked)
    _check_patterns(checked)
    own = {name: value for name, value in checked.items() if name in _OWN}
    inherited = {name: value for name, value in checked.items() if name in _CONFIG}
    if on_any_machine and not torch.cuda.is_available():
        inherited["use_cpu"] = True
    try:
        config = UnlearningConfig(**inherited)
        config.check_objective_args()
    except UserError:
        raise
    except Exception as error:  # TrainingArguments raises many types; each becomes one line
        raise UserError(first_line(error)) from None
    if "objective_args" in checked:
        checked["objective_args"] = config.objective_args  # the same, however it was written
    warn_of_old_names(settings)
    return Recipe(config=config, settings=checked, **own)


def computing_in_bfloat16(recipe: Recipe) -> UnlearningConfig:
    """Its configuration with ``bf16`` on a processor, which its settings do not say."""
    given: dict[str, Any] = {name: value for name, value in recipe.settings.items() if name in _CONFIG}
    return UnlearningConfig(**given | {"bf16": True, "use_cpu": True})


_RANGES: dict[str, Mapping[str, float]] = {
    "per_device_eval_batch_size": {"least": 1},
    "warmup_steps": {"least": 0},
    "seed": {"least": 0, "below": 2**32},
    "adam_beta1": {"least": 0, "below": 1},
    "adam_beta2": {"least": 0, "below": 1},
    "adam_epsilon": {"least": 0},
}
"""Of settings that their libraries would refuse only after minutes of loading."""


def _check_ranges(settings: Mapping[str, JsonValue]) -> None:
    ranges = _RANGES | {name: one.metadata for name, one in _OWN.items()}
    for name, value in settings.items():
        check_range(name, value, ranges.get(name, {}))


def _check_patterns(settings: Mapping[str, JsonValue]) -> None:
    for name in ("trainable_params", "hidden_module"):
        try:
            re.compile(str(settings.get(name) or ""))
        except re.error as error:
            raise UserError(f"{name}: {settings[name]!r} is not a regular expression ({error})") from None


def _convert(name: str, value: Any) -> Any:
    if name == "keep_best" and value is not None:
        return rule_text(value)
    if name == "lora_target_modules" and isinstance(value, str) and value != "all-linear":
        parts = [part.strip() for part in value.split(",")]
        if all(re.fullmatch(r"[\w.]+", part) for part in parts):  # anything else is a pattern over whole names
            return parts
    if isinstance(value, str):
        check_name(name, _TYPES[name], value)
    try:
        return TypeAdapter(_TYPES[name]).validate_python(value)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        raise UserError(f"{name}: {message[0].lower()}{message[1:]}, got {repr(value)[:80]}") from None
