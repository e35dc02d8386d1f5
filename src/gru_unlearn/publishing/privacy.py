"""What of a run may be shown to everybody: numbers, hashes, public names; no paths, no file names, no text of rows.

File and folder names often name a person or a customer, and paths name a user of a machine. So a source is shown by
name only if anybody can find it under that name: the built-in ones, and hub repositories that this machine's hub cache
knows. All others are known by their SHA-256.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name
from pydantic import JsonValue

from gru_unlearn.common.places import BUILTIN, PRETRAINED
from gru_unlearn.models.pretrained import known
from gru_unlearn.runs.setting_names import MADE

NAMED = (BUILTIN, PRETRAINED)
Settings = Mapping[str, JsonValue]

SOURCES = {
    name: name.upper()
    for name in ("model", "forget", "retain", "train_rows", "held_out", "retain_model", "base_model", "control_rows")
}
"""Setting → the word that stands for it in a published command, where it has no public name."""

TEXTS = frozenset({
    "objective", "rectification", "learning_rate", "robust", "retain_loss", "retain_placement", "hidden_module",
    "trainable_params", "keep_best", "retain_choice",
    "eval_suite", "eval_forget_split", "eval_unseen_split", "eval_holdout_split", "eval_strategy", "save_strategy",
    "logging_strategy", "lr_scheduler_type", "optim", "dtype", "attn_implementation", "lora_target_modules",
    "pad_token", "eos_token", "question_tag", "answer_tag", "alternative_field", "granularity",
})  # fmt: skip
"""Settings whose value is text that says nothing about persons or machines; numbers and switches all are shown."""


def public_name(source: str | None, kind: Literal["model", "dataset"]) -> str | None:
    """The name under which anybody finds a source; None for files, folders, and names that cannot be placed."""
    if source in (None, MADE) or source.startswith(NAMED):
        return source
    head = source.partition("[")[0].partition(":")[0]
    if head.count("/") != 1 or Path(head).expanduser().exists():
        return None
    cached = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=head, repo_type=kind)
    return source if cached.is_dir() else None


def hub_name(public: str | None) -> str | None:
    """What the hub calls a public name; None for something built in."""
    if public is None or public.startswith(BUILTIN):
        return None
    if public.startswith(PRETRAINED):
        return known(public).repository
    return public


def public_settings(settings: Settings) -> tuple[Settings, list[str]]:
    """Settings that may be shown, and the names of those left out. Sources are neither: see :func:`public_name`."""
    own = {name.removeprefix("tru_"): value for name, value in settings.items() if name not in SOURCES}
    given = {name: value for name, value in own.items() if value is not None and value != []}
    shown = {name: value for name, value in given.items() if _is_harmless(name, value)}
    return shown, sorted(given.keys() - shown.keys())


def _is_harmless(name: str, value: JsonValue) -> bool:
    if isinstance(value, bool | int | float):
        return math.isfinite(value)
    if isinstance(value, list):
        return all(_is_harmless(name, part) for part in value)
    if name == "objective_args" and isinstance(value, dict):  # named by parameters of a function of this package
        return all(_is_harmless(name, part) for part in value.values())
    return isinstance(value, str) and name in TEXTS
