"""The command that repeats what a summary tells of."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from gru_unlearn.common.renamed import renamed_settings


def reproduce(summary: Mapping[str, Any], explicit: Mapping[str, Any]) -> str:
    """One shell command; results go to a new folder.

    Args:
        summary: of an unlearning run, a demonstration, a comparison, an evaluation or an attack.
        explicit: settings of an unlearning run that were not left to their defaults.
    """
    command = summary["command"]
    flags: dict[str, Any] = {}
    if command == "unlearn":
        flags = {**explicit, "output_dir": "runs/again"}
    elif command == "demo":
        flags = {"seed": summary["seed"], "out": "runs/again"}
    elif command == "evaluate":
        flags = {**renamed_settings(summary["settings"]), "out": "runs/again"}
    elif command == "compare":
        flags = _comparison(summary)
    else:
        flags = {**renamed_settings(summary["settings"]), "prefixes": summary.get("prefixes"), "out": "runs/again"}
    of_run = [summary["run"]] if summary.get("run") else []
    switches = command in ("evaluate", "attack")  # theirs are off unless they are there
    given = {name: value for name, value in flags.items() if value is not None and not (switches and value is False)}
    words = [word for name, value in given.items() for word in _flag(name, value)]
    return shlex.join(["gru", command, *of_run, *words])


def _comparison(summary: Mapping[str, Any]) -> dict[str, Any]:
    own = ("objective", "rectification", "learning_rate", "seed", "output_dir")
    cells = summary["cells"]
    request = (summary.get("suite") or {}).get("request") or {}
    return {
        "objectives": ",".join(dict.fromkeys(cell["objective"] for cell in cells)),
        "rectifications": ",".join(dict.fromkeys(cell["rectification"] for cell in cells)),
        "learning_rates": ";".join(
            f"{objective}={','.join(f'{rate:g}' for rate in rates)}"
            for objective, rates in summary["learning_rates"].items()
        ),
        "seeds": ",".join(dict.fromkeys(str(cell["seed"]) for cell in cells)) + ",",
        **{name: value for name, value in summary["settings"].items() if name not in own},
        "suite": request.get("suite", "none"),
        "suite_data": request.get("data"),
        "output_dir": "runs/again",
    }


def _flag(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if value is False:
        return [f"{flag}=false"]
    if value is True:
        return [flag]
    if isinstance(value, list):
        value = ",".join(map(str, value))
    return [flag, json.dumps(value) if isinstance(value, Mapping) else str(value)]
