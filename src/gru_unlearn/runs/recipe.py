"""A recipe: everything one unlearning run needs to know, from a YAML file, from flags, or both."""

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from gru_unlearn.common.renamed import renamed_settings, warn_of_old_names
from gru_unlearn.errors import UserError, first_line, nearest
from gru_unlearn.training import UnlearningConfig


@dataclass(frozen=True)
class Recipe:
    """Settings of a run. All other names that a recipe may contain are fields of ``UnlearningConfig``."""

    config: UnlearningConfig
    model: str = field(metadata={"help": "Model to unlearn from: a folder, a hub id, or builtin:target."})
    forget: str = field(metadata={"help": "What to forget: a file, FOLDER:NAME, a hub data set, or builtin:forget."})
    retain: str | None = field(default=None, metadata={"help": "What must stay; likewise."})
    held_out: str | None = field(default=None, metadata={"help": "Rows that must stay and that no step ever sees."})
    retain_model: str | None = field(
        default=None, metadata={"help": "A model trained without the forget set: gives the target of forgetting."}
    )
    stop_when_forgotten: bool = field(
        default=False, metadata={"help": "Stop at the retain model's forget probability."}
    )
    eval_suite: Literal["own", "builtin", "tofu", "muse"] | None = field(
        default=None,
        metadata={"help": "Run all metrics of this suite at every evaluation too: own (this run's rows), builtin, ..."},
    )
    eval_data: str | None = field(default=None, metadata={"help": "Data of eval_suite, as --data of gru evaluate."})
    eval_forget_split: str = field(default="forget10", metadata={"help": "Forget split of eval_suite tofu."})
    eval_holdout_split: str | None = field(default=None, metadata={"help": "Holdout split of eval_suite tofu."})
    keep_best: str | None = field(
        default=None,
        metadata={
            "help": "Save the best model by a rule instead of the last one, for example: "
            "max model_utility if forget_prob <= forget_target (the retain model's)."
        },
    )
    use_peft: bool = field(default=False, metadata={"help": "Train LoRA adapters instead of all weights."})
    lora_r: int = field(default=16, metadata={"help": "LoRA's rank."})
    lora_alpha: int = field(default=32, metadata={"help": "LoRA's α."})
    lora_dropout: float = field(default=0.0, metadata={"help": "LoRA's dropout."})
    lora_target_modules: list[str] | str | None = field(
        default="all-linear", metadata={"help": "Modules that get adapters, comma-separated."}
    )
    load_in_4bit: bool = field(
        default=False,
        metadata={"help": "QLoRA: keep the model in 4 bits (NF4) under the adapters; needs use_peft and bitsandbytes."},
    )
    dtype: Literal["auto", "float32", "bfloat16"] = field(
        default="auto", metadata={"help": "Weights' type: auto, float32, bfloat16."}
    )
    attn_implementation: str | None = field(default=None, metadata={"help": "eager, sdpa, flash_attention_2."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code that comes with a model. Off."})
    pad_token: str | None = field(default=None, metadata={"help": "For tokenizers without a padding token."})
    eos_token: str | None = field(default=None, metadata={"help": "For tokenizers without an end-of-sequence token."})
    allow_overlap: bool = field(default=False, metadata={"help": "Accept rows that are in both forget and retain."})
    report_examples: int = field(
        default=64,
        metadata={"help": "Rows of each set that the report shows one by one, before and after; 0: none."},
    )
    settings: Mapping[str, Any] = field(default_factory=dict)
    """what was set explicitly, checked and converted: two runs with equal settings, data and model are the same run"""

    @property
    def in_force(self) -> dict[str, Any]:
        """All settings that hold, set or not, ready for JSON: ours first."""
        own = {name: getattr(self, name) for name in _OWN}
        return own | {name: value for name, value in self.config.to_dict().items() if value is not None}


_OWN = {f.name: f for f in dataclasses.fields(Recipe) if f.name not in ("config", "settings")}
_CONFIG = {f.name: f for f in dataclasses.fields(UnlearningConfig) if f.init}
_TYPES = get_type_hints(UnlearningConfig) | get_type_hints(Recipe)


def setting_names() -> list[str]:
    """Every name that a recipe or a flag may set: those of this project first, then those of ``TrainingArguments``."""
    ours = [name for name in (*_OWN, *UnlearningConfig.__annotations__) if name in _OWN or name in _CONFIG]
    return [*ours, *sorted(_CONFIG.keys() - set(ours))]


def describe_setting(name: str) -> tuple[str, str]:
    """A setting's default and help, for showing."""
    setting = _OWN.get(name) or _CONFIG[name]
    default = "" if setting.default in (dataclasses.MISSING, None) else str(setting.default).replace("\n", "\\n")
    return default, " ".join(str(setting.metadata.get("help", "")).replace("%%", "%").split())


def read_recipe(path: str) -> dict[str, Any]:
    """Settings of a YAML file.

    Raises:
        UserError: not there, not YAML, or not a mapping.
    """
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"recipe {path} cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8 text'}"
        ) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", error)).split())[:200]
        raise UserError(f"recipe {path}{where}: not valid YAML ({problem})") from None
    except RecursionError:
        raise UserError(f"recipe {path}: not valid YAML (nested too deeply)") from None
    except Exception as error:  # of numbers, dates and the like that are none
        raise UserError(f"recipe {path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError(f"recipe {path}: expected lines of the form 'setting: value'")
    return content


class _Loader(yaml.SafeLoader):
    """Plain data only, and no name twice: YAML would keep the last value without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in names:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value} stands there twice", problem_mark=key.start_mark
                )
            names.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep)


def make_recipe(settings: Mapping[str, Any], *, on_any_machine: bool = False) -> Recipe:
    """Check and convert settings; values may be text, as they come from flags.

    Args:
        settings: names and values.
        on_any_machine: do not ask whether this machine has the device that the settings need (for dry runs).

    Raises:
        UserError: an unknown setting (the nearest is named), a value of the wrong kind, a missing model or forget set.
    """
    given, settings = settings, renamed_settings(settings)
    for name in settings:
        if name not in _OWN and name not in _CONFIG:
            raise UserError(f"unknown setting {name!r}{nearest(name, setting_names()) if _close(name) else _LIST}")
    if settings.get("hub_token"):  # it would stand in the list of processes and in run.json
        raise UserError("hub_token: secrets are not settings; log in with `hf auth login`, or set HF_TOKEN")
    checked = {name: _convert(name, value) for name, value in settings.items()}
    for name in ("model", "forget"):
        if not checked.get(name):
            raise UserError(f"no {name} given: pass --{name}, or set it in the recipe")
    _check_ranges(checked)
    own = {name: value for name, value in checked.items() if name in _OWN}
    fields = {name: value for name, value in checked.items() if name in _CONFIG}
    if on_any_machine:
        fields["use_cpu"] = True
    try:
        config = UnlearningConfig(**fields)
        config.check_objective_args()
    except UserError:
        raise
    except Exception as error:  # TrainingArguments raises many types; each becomes one line
        raise UserError(first_line(error)) from None
    if "objective_args" in checked:
        checked["objective_args"] = config.objective_args  # the same, however it was written
    warn_of_old_names(given)
    return Recipe(config=config, settings=checked, **own)


_RANGES: dict[str, tuple[int, int | None]] = {
    "lora_r": (1, None),
    "lora_alpha": (1, None),
    "lora_dropout": (0, 1),
    "per_device_eval_batch_size": (1, None),
    "warmup_steps": (0, None),
    "seed": (0, 2**32),
    "adam_beta1": (0, 1),
    "adam_beta2": (0, 1),
    "adam_epsilon": (0, None),
}
"""At least, and below: of settings that their libraries would refuse only after minutes of loading."""


def _check_ranges(settings: Mapping[str, Any]) -> None:
    for name, (least, below) in _RANGES.items():
        value = settings.get(name)
        if value is not None and not least <= value < (below or math.inf):
            raise UserError(f"{name} must be at least {least}{f' and below {below}' if below else ''}, got {value}")
    for name in ("trainable_params", "hidden_module"):
        try:
            re.compile(settings.get(name) or "")
        except re.error as error:
            raise UserError(f"{name}: {settings[name]!r} is not a regular expression ({error})") from None


_LIST = "; `gru unlearn --list-settings` shows all"


def _close(name: str) -> bool:
    return "did you mean" in nearest(name, setting_names())


def _convert(name: str, value: Any) -> Any:
    if name == "lora_target_modules" and isinstance(value, str) and value != "all-linear":
        parts = [part.strip() for part in value.split(",")]
        if all(re.fullmatch(r"[\w.]+", part) for part in parts):  # anything else is a pattern over whole names
            return parts
    enums = [kind for kind in get_args(_TYPES[name]) if isinstance(kind, type) and issubclass(kind, Enum)]
    choices = [str(member.value) for kind in enums for member in kind]
    if choices and isinstance(value, str) and value not in choices:  # the type admits any text, transformers does not
        raise UserError(f"unknown {name} {value!r}{nearest(value, choices)}")
    try:
        return TypeAdapter(_TYPES[name]).validate_python(value)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        raise UserError(f"{name}: {message[0].lower()}{message[1:]}, got {repr(value)[:80]}") from None
