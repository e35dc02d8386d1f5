"""Which of a run's models is kept: the best one by a rule that the user states.

    max model_utility if forget_prob <= forget_target
    min forget_prob if retain_prob >= 0.8 and model_utility >= 0.5

A rule reads the metrics of an evaluation by their names along the trajectory; ``forget_target`` is the retain model's
forget probability.
"""

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from gru_unlearn.common.files import finish, read_json, unfinished, write_json
from gru_unlearn.common.processes import is_first
from gru_unlearn.errors import UserError, nearest

BEST_FOLDER, BEST_FILE = "best", "best.json"

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_CONDITION = re.compile(r"(\w+)\s*(<=|>=|<|>)\s*([\w.+-]+)")
_RULE = re.compile(rf"(max|min)\s+(\w+)(?:\s+if\s+({_CONDITION.pattern}(?:\s+and\s+{_CONDITION.pattern})*))?")


@dataclass(frozen=True, slots=True)
class Rule:
    """A metric to maximise or minimise among the evaluations that meet every condition."""

    highest: bool
    metric: str
    conditions: tuple[tuple[str, str, str], ...] = ()

    @property
    def names(self) -> set[str]:
        """Every metric that the rule reads."""
        mentioned = {self.metric, *(word for left, _, right in self.conditions for word in (left, right))}
        return {name for name in mentioned if not _is_number(name)}

    def score(self, metrics: Mapping[str, float]) -> float | None:
        """What to maximise; None where a condition is not met or a metric has no value."""
        if not self.names <= metrics.keys():
            return None
        for left, comparison, right in self.conditions:
            bound = float(right) if _is_number(right) else metrics[right]
            if not _COMPARISONS[comparison](metrics[left], bound):
                return None
        value = metrics[self.metric]
        return None if math.isnan(value) else value if self.highest else -value


def parse_rule(text: str) -> Rule:
    """``max METRIC [if METRIC <= NUMBER_OR_METRIC [and …]]``.

    Raises:
        UserError: it does not have this form.
    """
    match = _RULE.fullmatch(text.strip())
    if not match:
        raise UserError(
            f"--keep-best {text!r} is not of the form 'max METRIC if METRIC <= VALUE', "
            "for example 'max model_utility if forget_prob <= forget_target'"
        )
    conditions = _CONDITION.findall(match[3] or "")
    return Rule(match[1] == "max", match[2], tuple((left, sign, right) for left, sign, right in conditions))


class KeepBest(TrainerCallback):
    """Saves the model at each evaluation that beats the best so far; survives a resume.

    Args:
        rule: what is best.
        output: the run's folder.
        constants: further names that the rule may read, such as ``forget_target``.
        save: writes the model as it stands into a folder.

    Raises:
        UserError: from the first evaluation on, the rule reads a metric that there is not.
    """

    def __init__(self, rule: Rule, output: Path, constants: Mapping[str, float], save: Callable[[str], None]) -> None:
        self.rule, self.output, self.constants, self.save = rule, output, constants, save
        kept = (output / BEST_FOLDER).is_dir()  # not so if a kill came between two moves
        self.best: dict[str, Any] | None = read_json(output / BEST_FILE) if kept else None

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Compare with the best so far."""
        metrics = {key.removeprefix("eval_"): value for key, value in kwargs["metrics"].items()}
        metrics |= self.constants
        unknown = sorted(self.rule.names - metrics.keys())
        if unknown:
            raise UserError(f"--keep-best: no metric {unknown[0]!r} in this run{nearest(unknown[0], metrics)}")
        score = self.rule.score(metrics)
        if score is None or (self.best is not None and score <= self.best["score"]):
            return
        self.best = {"step": state.global_step, "score": score, "metrics": metrics}
        self.save(str(unfinished(self.output / BEST_FOLDER)))  # every process takes part, where weights are sharded
        if is_first():
            finish(self.output / BEST_FOLDER)
            write_json(self.output / BEST_FILE, self.best)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
