"""Old names of settings: they still work, and say once which name holds today."""

import warnings
from collections.abc import Mapping
from typing import Any

from gru_unlearn.errors import UserError

RENAMED = {
    "beta": "objective_args.beta",
    "beta1": "objective_args.beta1",
    "beta2": "objective_args.beta2",
    "delta": "objective_args.delta",
    "steering_coefficient": "objective_args.steering_coefficient",
    "eval_holdout_split": "eval_unseen_split",
    "holdout": "unseen",
    "holdout_split": "unseen_split",
}
"""Old name → today's. With a dot in it: the setting, and the name inside of it."""


class RenamedSetting(FutureWarning):
    """A setting was given under an old name."""


def renamed_settings(settings: Mapping[str, object]) -> dict[str, Any]:
    """The settings under today's names. Old ones without a value are left out.

    Raises:
        UserError: a setting has a value under both names.
    """
    today = {name: value for name, value in settings.items() if name not in RENAMED}
    inside: dict[str, dict[str, object]] = {}
    for old in _old_names(settings):
        name, _, key = RENAMED[old].partition(".")
        if settings.get(name) is not None:
            raise UserError(f"{old} is an old name of {RENAMED[old]}, and {name} is set, too: leave {old} out")
        if key:
            inside.setdefault(name, {})[key] = settings[old]
        else:
            today[name] = settings[old]
    return today | inside


def warn_of_old_names(settings: Mapping[str, object], stacklevel: int = 2) -> None:
    """Say which settings have old names. ``stacklevel``: as of ``warnings.warn``, seen from here."""
    for old in _old_names(settings):
        message = f"{old} is an old name that still works: set {RENAMED[old]} instead"
        warnings.warn(message, RenamedSetting, stacklevel + 1)


def _old_names(settings: Mapping[str, object]) -> list[str]:
    return [name for name, value in settings.items() if name in RENAMED and value is not None]
