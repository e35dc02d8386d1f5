"""Hyper-parameters of an objective as people write them, checked against its signature."""

import json
from collections.abc import Mapping
from typing import Any

from gru_unlearn.common.options import check_range
from gru_unlearn.errors import UserError
from gru_unlearn.objectives import Objective, hyperparameters_of
from gru_unlearn.training.setting_limits import POSITIVE

HyperparameterValue = float | str | bool | None
"""A number almost always; an objective of one's own may have others."""


def parse_hyperparameters(
    given: Mapping[str, HyperparameterValue] | str | None,
) -> dict[str, HyperparameterValue] | None:
    """A mapping, JSON text of one, or ``name=value,name=value``. None where there is nothing in it.

    Raises:
        UserError: text that is none of these, or a name that no parameter can have.
    """
    if isinstance(given, str):
        given = _parse(given)
    for name in given or ():
        if not (isinstance(name, str) and name.isidentifier()):
            raise UserError(f"objective_args: {repr(name)[:80]} cannot be the name of a parameter")
    return dict(given or {}) or None


def _parse(text: str) -> dict[str, HyperparameterValue]:
    if text.lstrip().startswith("{"):
        try:
            return dict(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise UserError(f"objective_args: not valid JSON ({error})") from None
    found = {}
    for part in filter(None, text.split(",")):
        name, given, value = part.partition("=")
        if not given:
            raise UserError(f"objective_args: expected name=value,name=value or JSON, got {text!r}"[:200])
        found[name.strip()] = _from_text(value.strip())
    return found


def _from_text(text: str) -> HyperparameterValue:
    """A JSON value where it is one (``0.1``, ``true``), else text."""
    try:
        value: HyperparameterValue = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value


def check_hyperparameters(
    objective: Objective, given: Mapping[str, HyperparameterValue], title: str | None = None
) -> dict[str, HyperparameterValue]:
    """The given hyper-parameters, as numbers where the objective's defaults are numbers.

    Args:
        objective: whose signature decides.
        given: parameter → value; None in the place of a number: the default.
        title: the objective's name in messages, by default that of the function.

    Raises:
        UserError: a parameter that the objective does not have, or a value that is no finite number where one belongs.
    """
    defaults = hyperparameters_of(objective)
    title = title or getattr(objective, "__name__", type(objective).__name__)
    found: dict[str, HyperparameterValue] = {}
    for name, value in given.items():
        if name not in defaults:
            raise UserError(f"objective {title!r} has no {name}")
        if not _is_numeric(defaults[name]):
            found[name] = value
        elif value is not None:
            found[name] = _number(name, value)
    return found


def _is_numeric(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(name: str, value: Any) -> float:
    try:
        number: float = value if _is_numeric(value) else float(value)
        check_range(name, number, {"beta": POSITIVE}.get(name, {"finite": True}))
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{name}: input should be a valid number, got {repr(value)[:80]}") from None
    return number
