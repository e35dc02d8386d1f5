"""The rule that says which of a run's models is the best one.

    keep_best:
      maximize: model_utility
      where:
        forget_prob: {at_most: forget_target}
        retain_prob: {at_least: 0.8}

A rule reads the metrics of an evaluation by their names along the trajectory; ``forget_target`` is f*, the
value of the mark. As one line: ``maximize: model_utility, where: {forget_prob: {at_most: forget_target}}``. The old
form, ``max model_utility if forget_prob <= forget_target and retain_prob >= 0.8``, still works.
"""

import math
import operator
import re
import warnings
from collections.abc import Mapping
from itertools import chain
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from gru_unlearn.common.renamed import RenamedSetting
from gru_unlearn.errors import UserError, nearest
from gru_unlearn.runs.recipe_file import parse_yaml

Bound = Annotated[Annotated[float, Field(allow_inf_nan=False)] | str, Field(union_mode="left_to_right")]
"""A number, or the name of a metric whose value it is."""
Bounds = Annotated[tuple[Bound, ...], BeforeValidator(lambda given: given if isinstance(given, list) else [given])]

_COMPARISONS = {"at_most": operator.le, "at_least": operator.ge, "below": operator.lt, "above": operator.gt}
_STRICT = ConfigDict(extra="forbid", frozen=True)


class Condition(BaseModel):
    """What a metric must meet; of several bounds of a kind, all."""

    model_config = _STRICT

    at_most: Bounds = ()
    at_least: Bounds = ()
    below: Bounds = ()
    above: Bounds = ()

    def met(self, value: float, metrics: Mapping[str, float]) -> bool:
        """Whether a value is within the bounds."""
        for kind, holds in _COMPARISONS.items():
            for bound in getattr(self, kind):
                if not holds(value, metrics[bound] if isinstance(bound, str) else bound):
                    return False
        return True


class BestRule(BaseModel):
    """A metric to maximize or minimize among the evaluations that meet every condition."""

    model_config = _STRICT

    maximize: str = ""
    minimize: str = ""
    where: dict[str, Condition] = {}

    @model_validator(mode="after")
    def _has_one_goal(self) -> Self:
        if bool(self.maximize) == bool(self.minimize):
            raise ValueError("it needs either maximize or minimize")
        return self

    @property
    def names(self) -> set[str]:
        """Every metric that the rule reads."""
        bounds = chain.from_iterable(chain(*dict(condition).values()) for condition in self.where.values())
        return {self.maximize or self.minimize, *self.where, *filter(lambda bound: isinstance(bound, str), bounds)}

    def score(self, metrics: Mapping[str, float]) -> float | None:
        """What to maximize; None where a condition is not met or a metric has no value."""
        if not self.names <= metrics.keys():
            return None
        if not all(condition.met(metrics[name], metrics) for name, condition in self.where.items()):
            return None
        value = metrics[self.maximize] if self.maximize else -metrics[self.minimize]
        return None if math.isnan(value) else value

    def __str__(self) -> str:
        """As it may be typed."""
        content = self.model_dump(mode="json", exclude_defaults=True)
        for condition in content.get("where", {}).values():
            condition |= {kind: bounds[0] for kind, bounds in condition.items() if len(bounds) == 1}
        return yaml.safe_dump(content, default_flow_style=True, sort_keys=False, width=math.inf).strip()[1:-1]


# --- reading ---------------------------------------------------------------------------------------------------------


def rule_text(given: object) -> str:
    """A rule that was set, as one line. The old form stays as it is: a run that began with it is still the same run.

    Raises:
        UserError: as :func:`parse_rule`.
    """
    rule = parse_rule(given)
    return given if isinstance(given, str) and _is_old(given) else str(rule)


def parse_rule(given: object) -> BestRule:
    """A rule from a recipe's mapping, from text of one line, or from text in the old form.

    Raises:
        UserError: it is no rule; where a word is unknown, the nearest is named.
    """
    if isinstance(given, str):
        if _is_old(given):
            return _parse_old(given)
        if not given.lstrip().startswith("{"):
            given = f"{{{given}}}"
        given = parse_yaml(given, "--keep-best")
    try:
        return BestRule.model_validate(given)
    except ValidationError as error:
        raise UserError(_problem(error)) from None


def _problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    place = ["keep_best", *map(str, problem["loc"][:3])]
    if problem["type"] == "extra_forbidden":
        word = place.pop()
        known = BestRule.model_fields if len(place) == 1 else Condition.model_fields
        return f"{'.'.join(place)}: unknown word {word!r}{nearest(word, known)}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{'.'.join(place)}: {message[0].lower()}{message[1:]}"


# --- the old form ----------------------------------------------------------------------------------------------------

_SIGNS = {"<=": "at_most", ">=": "at_least", "<": "below", ">": "above"}
_CONDITION = re.compile(r"(\w+)\s*(<=|>=|<|>)\s*([\w.+-]+)")
_RULE = re.compile(rf"(max|min)\s+(\w+)(?:\s+if\s+({_CONDITION.pattern}(?:\s+and\s+{_CONDITION.pattern})*))?")


def _is_old(text: str) -> bool:
    return ":" not in text


def _parse_old(text: str) -> BestRule:
    """``max METRIC [if METRIC <= NUMBER_OR_METRIC [and …]]``."""
    match = _RULE.fullmatch(text.strip())
    if not match:
        raise UserError(
            f"--keep-best {text!r} is not of the form 'max METRIC if METRIC <= VALUE', "
            "better 'maximize: METRIC, where: {METRIC: {at_most: VALUE}}'"
        )
    where: dict[str, dict[str, list[str]]] = {}
    for metric, sign, bound in _CONDITION.findall(match[3] or ""):
        where.setdefault(metric, {}).setdefault(_SIGNS[sign], []).append(bound)
    rule = BestRule.model_validate({f"{match[1]}imize": match[2], "where": where})
    warnings.warn(f"keep_best {text!r} is an old form that still works: set {str(rule)!r} instead", RenamedSetting, 3)
    return rule
