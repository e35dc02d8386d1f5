"""Which settings there are, known without the libraries that they come from, and what names and places alone show.

All of it is checked again, with the rest, when a recipe is made: here it is only so that a slip is told at once.
``known_settings.json`` is written by ``tools/known_settings.py`` from the settings themselves.
"""

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from gru_unlearn.common.options import flag_of
from gru_unlearn.common.places import check_model_place, check_rows_place
from gru_unlearn.common.renamed import RENAMED
from gru_unlearn.common.trackers import require_trackers
from gru_unlearn.errors import UserError, nearest

FILE = Path(__file__).with_name("known_settings.json")

# Settings that say where something is.
MODELS = ("model", "retain_model", "base_model")
ROWS = ("forget", "retain", "train_rows", "held_out", "control_rows")

MADE = "made"
"""The word for rows that a run makes itself: retain rows by its model, control rows of the forget rows."""


OWN_RATE = ("learning_rate", "auto")
"""The number that may be a word, and the word."""


class KnownSettings(NamedTuple):
    """All settings by name."""

    names: list[str]
    """those of this project first"""
    switches: list[str]
    """that may be true or false"""
    numbers: dict[str, str]
    """setting → integer or number"""
    refused: list[str]
    """that transformers has, and that have no place here"""
    choices: dict[str, list[str]]
    """setting → the names that it may have; of a rectification and of robustness, how it may begin"""
    inherited_choices: dict[str, list[str]]
    """the same of settings whose names transformers gives"""
    refused_values: dict[str, dict[str, str]]
    """setting → names that have no place here → the message"""
    transformers: str
    """version that the file is of: another one may know other names"""


@cache
def known_settings() -> KnownSettings:
    """What the file says."""
    return KnownSettings(**json.loads(FILE.read_text(encoding="utf-8")))


def old_names() -> list[str]:
    """Names that settings used to have."""
    known = known_settings().names
    return [old for old, new in RENAMED.items() if new.partition(".")[0] in known]


def check_names(names: Iterable[str], known: Iterable[str] | None = None) -> None:
    """Whether there are settings of these names.

    Args:
        names: given.
        known: all that there are; by default those of the file.

    Raises:
        UserError: there is one that is not; the nearest is named.
    """
    known = list(known or known_settings().names)
    for name in names:
        if name not in known and name not in old_names():
            close = nearest(name, known)
            if "did you mean" not in close:
                close = "; `gru unlearn --list-settings` shows all"
            raise UserError(f"unknown setting {name!r}{close}")


def check_at_first_sight(settings: Mapping[str, Any], needed: Iterable[str] = ()) -> None:
    """What can be told of settings before anything heavy is imported.

    Args:
        settings: names and values, of a recipe and of flags.
        needed: settings that must be there.

    Raises:
        UserError: an unknown setting or choice, text where a number belongs, a tracker whose package is missing, a
            place where nothing is, or a setting that is needed and lacks.
    """
    check_names(settings)
    for name, value in settings.items():
        _check_kind(name, value)
        if isinstance(value, str):
            check_choice(name, value)
    trackers = settings.get("report_to")
    require_trackers(trackers if isinstance(trackers, list) else [trackers])
    for name in needed:
        if not settings.get(name):
            raise UserError(f"no {name} given: pass {flag_of(name)}, or set it in the recipe")
    _check_places(settings)


def check_choice(setting: str, value: str) -> None:
    """Whether a setting may have this name.

    Raises:
        UserError: it may not; the nearest is named.
    """
    refused = known_settings().refused_values.get(setting, {})
    if value in refused:
        raise UserError(refused[value])
    choices = choices_for(setting)
    if setting in ("rectification", "robust"):  # as in gru/element or spectral=0.25+drift
        value = re.split("[/=+]", value)[0]
    if choices is not None and value not in choices:
        raise UserError(f"unknown {setting} {value!r}{nearest(value, choices)}")


def choices_for(setting: str) -> list[str] | None:
    """The names that a setting may have; None: not known here, or any text may be."""
    known = known_settings()
    if setting in known.inherited_choices and _is_installed(known.transformers):
        return known.inherited_choices[setting]
    return known.choices.get(setting)


@cache
def _is_installed(transformers: str) -> bool:
    try:
        return version("transformers") == transformers
    except PackageNotFoundError:
        return False


def _check_kind(name: str, value: object) -> None:
    """Refuse what can be no number, and no place, whatever it stands for."""
    kind = known_settings().numbers.get(name)
    if name in (*MODELS, *ROWS) and not isinstance(value, str | None):
        kind = "string"
    elif kind is None or _may_be_number(value) or (name, value) == OWN_RATE:
        return
    if kind is not None:
        raise UserError(f"{name}: input should be a valid {kind}, got {repr(value)[:80]}")


def _may_be_number(value: object) -> bool:
    if not isinstance(value, str):
        return isinstance(value, int | float | None)
    try:
        float(value)
    except ValueError:
        return value in ("null", "None")
    return True


def _check_places(settings: Mapping[str, Any]) -> None:
    for name in (*MODELS, *ROWS):
        value = settings.get(name)
        if not isinstance(value, str) or not value or (name == "retain" and value == MADE):
            continue
        if name in MODELS:
            check_model_place(value, flag_of(name))
        elif (name, value) != ("control_rows", MADE):
            check_rows_place(value)
