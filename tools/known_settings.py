"""Write ``src/gru_unlearn/runs/known_settings.json``, the names by which settings are known before any heavy library
is there: ``python tools/known_settings.py``. A test holds it to the settings themselves."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

from gru_unlearn.geometry import NAMES
from gru_unlearn.robustness import NAMES as ROBUST_NAMES
from gru_unlearn.runs.recipe import is_switch, kind_of, setting_names
from gru_unlearn.runs.setting_choices import choices_of, refused_values
from gru_unlearn.runs.setting_names import FILE
from gru_unlearn.training.inherited_settings import INHERITED
from gru_unlearn.training.setting_limits import CHOICES


def known_settings() -> dict[str, Any]:
    """What stands in the file."""
    names = setting_names()
    refused = [name for name in names if name in INHERITED and INHERITED[name].verdict == "refused"]
    choices = {name: list(chosen) for name, chosen in CHOICES.items()}
    inherited: dict[str, list[str]] = {}
    for name in names:
        found = choices_of(name, kind_of(name))
        if found is not None and name not in choices and name not in refused:
            (inherited if name in INHERITED else choices)[name] = found
    choices |= {"rectification": list(NAMES), "robust": list(ROBUST_NAMES)}
    return {
        "names": names,
        "switches": [name for name in names if is_switch(name)],
        "numbers": {name: _number(name) for name in names if _kinds(name) <= {int, float, Literal["auto"]}},
        "refused": refused,
        "choices": choices,
        "inherited_choices": inherited,
        "refused_values": {name: refused_values(name) for name in names if refused_values(name)},
        "transformers": version("transformers"),
    }


def _kinds(name: str) -> set[Any]:
    return {*(get_args(kind_of(name)) or [kind_of(name)])} - {type(None)}


def _number(name: str) -> str:
    return "number" if float in _kinds(name) else "integer"


def as_text(known: dict[str, Any]) -> str:
    """As it stands in the file."""
    return json.dumps(known, indent=1) + "\n"


if __name__ == "__main__":
    Path(FILE).write_text(as_text(known_settings()), encoding="utf-8")
