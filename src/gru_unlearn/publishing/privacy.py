"""What of a run may be shown to everybody: numbers, hashes, public names; no paths, no file names, no text of rows.

File and folder names often name a person or a customer, and paths name a user of a machine. So a source is shown by
name only if anybody can find it under that name: the built-in ones, and hub repositories that this machine's hub cache
knows. All others are known by their SHA-256.
"""

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name

SOURCES = {
    "model": "MODEL",
    "forget": "FORGET",
    "retain": "RETAIN",
    "held_out": "HELD_OUT",
    "retain_model": "RETAIN_MODEL",
}
"""Setting → the word that stands for it in a published command, where it has no public name."""

TEXTS = frozenset({
    "objective", "rectification", "retain_loss", "retain_placement", "hidden_module", "trainable_params", "keep_best",
    "eval_suite", "eval_forget_split", "eval_unseen_split", "eval_holdout_split", "eval_strategy", "save_strategy",
    "logging_strategy", "lr_scheduler_type", "optim", "dtype", "attn_implementation", "lora_target_modules",
    "pad_token", "eos_token", "question_tag", "answer_tag", "alternative_field", "granularity",
})  # fmt: skip
"""Settings whose value is text that says nothing about persons or machines; numbers and switches all are shown."""

SETS = {"forget": "forget", "retain": "retain", "held_out": "held-out"}


def public_name(source: str | None, kind: Literal["model", "dataset"]) -> str | None:
    """The name under which anybody finds a source; None for files, folders, and names that cannot be placed."""
    if source is None or source.startswith("builtin:"):
        return source
    head = source.partition("[")[0].partition(":")[0]
    if head.count("/") != 1 or Path(head).expanduser().exists():
        return None
    cached = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=head, repo_type=kind)
    return source if cached.is_dir() else None


def public_settings(settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Settings that may be shown, and the names of those left out. Sources are neither: see :func:`public_name`."""
    own = {name.removeprefix("tru_"): value for name, value in settings.items() if name not in SOURCES}
    given = {name: value for name, value in own.items() if value is not None and value != []}
    return {name: value for name, value in given.items() if _harmless(name, value)}, sorted(
        name for name, value in given.items() if not _harmless(name, value)
    )


def _harmless(name: str, value: Any) -> bool:
    if isinstance(value, bool | int | float):
        return math.isfinite(value)
    if isinstance(value, list):
        return all(_harmless(name, part) for part in value)
    if name == "objective_args" and isinstance(value, Mapping):  # named by parameters of a function of this package
        return all(_harmless(name, part) for part in value.values())
    return isinstance(value, str) and name in TEXTS


def command_line(command: str, names: Mapping[str, str | None], settings: Mapping[str, Any]) -> str:
    """The command that repeats a run; a word in capitals stands for each source that has no public name.

    Args:
        command: ``unlearn`` or ``tru``.
        names: setting → public name or None, for the sources that the run had.
        settings: what was set explicitly, see :func:`public_settings`.
    """
    flags = [f"--{_kebab(key)} {shlex.quote(name) if name else SOURCES[key]}" for key, name in names.items()]
    flags += [_flag(name, value) for name, value in settings.items()]
    return " \\\n    ".join([f"gru {command}", *flags, "--output-dir RUN"])


def _kebab(name: str) -> str:
    return name.replace("_", "-")


def _flag(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{_kebab(name)}" if value else f"--no-{_kebab(name)}"
    if isinstance(value, Mapping):
        value = [f"{key}={part}" for key, part in value.items()]
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"--{_kebab(name)}={shlex.quote(text)}"


def run_metrics(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every metric of a run: its name, before, after (in the model that was saved) and in the retain model."""
    before, after, results = _ends(summary)
    shown = []
    for key, value in after.items():
        mark = summary["results"].get("forget_target") if key == "forget_prob" else None
        shown.append({"metric": key, "before": before.get(key), "after": value, "retain_model": mark})
    for key in ("rmf", "rmf_held_out"):
        if results.get(key) is not None:
            shown.append({"metric": key, "before": None, "after": results[key], "retain_model": None})
    return shown


def _ends(summary: Mapping[str, Any]) -> tuple[Mapping[str, Any], dict[str, float], Mapping[str, Any]]:
    """What was measured before a run, if it was, and of the model that it saved; and its results."""
    points, results = summary["trajectory"], summary["results"]
    if summary["command"] == "tru":
        points, results = points["tru"], results["tru"]
        first, last = points[0], next(point for point in points if point["alpha"] == results["alpha"])
        return first, _metrics(last), results
    step = best["step"] if (best := summary.get("best")) else points[-1]["step"]
    start = points[0] if points[0]["step"] == 0 else {}
    return start, _metrics(next(point for point in points if point["step"] == step)), results


def _metrics(point: Mapping[str, Any]) -> dict[str, float]:
    """Evaluations also note their place in the run and what they cost."""
    costs = ("runtime", "samples_per_second", "steps_per_second")
    return {
        key: value
        for key, value in point.items()
        if key not in ("step", "alpha", "epoch") and not key.endswith(costs) and isinstance(value, int | float)
    }


def evaluation_metrics(evaluations: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Evaluations of one suite beside each other: every metric that has a value after unlearning, with its interval.

    Args:
        evaluations: ``after``, and where there are any ``before`` and ``retain_model`` → summary of ``gru evaluate``.
    """
    values = {when: summary["metrics"] for when, summary in evaluations.items()}
    intervals = evaluations["after"].get("intervals", {})
    rows = []
    for key, value in values["after"].items():
        if value is not None:
            low, high = intervals.get(key, (None, None))
            other = {when: values.get(when, {}).get(key) for when in ("before", "retain_model")}
            rows.append({"metric": key, "after": value, "low": low, "high": high, **other})
    return rows


def public_attacks(summary: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """What attacks brought back, of a summary by ``gru attack``."""
    fields: Sequence[str] = (
        "attack", "variant", "measure", "unlearned", "target", "retain_model", "recovered", "low", "high",
    )  # fmt: skip
    return [{name: row.get(name) for name in fields} for row in (summary or {}).get("attacks", [])]
