"""The names that a rule for the best model may read, which are known before any model is."""

from collections.abc import Collection

from gru_unlearn.errors import UserError, nearest
from gru_unlearn.evaluation.rows import Suite
from gru_unlearn.runs.best_rule import parse_rule
from gru_unlearn.runs.own_choice import evaluates
from gru_unlearn.runs.recipe import Recipe

FORGET_TARGET = "forget_target"
"""What a rule for the best model calls f*, the value of the mark."""


def check_rule(recipe: Recipe, sets: Collection[str], suite: Suite | None) -> None:
    """Whether every evaluation will have what --keep-best reads.

    Args:
        recipe: the settings.
        sets: names of the sets of rows that were given.
        suite: whose metrics every evaluation measures.

    Raises:
        UserError: a name that no evaluation has (the nearest is named), or no evaluation along the run.
    """
    if recipe.keep_best is None:
        return
    names = parse_rule(recipe.keep_best).names
    for name in sorted(names & _of_retain_model(suite)):
        if not recipe.retain_model:
            raise UserError(f"--keep-best reads {name}, which needs --retain-model")
    if not evaluates(recipe):
        raise UserError("--keep-best needs evaluations: add --eval-strategy steps --eval-steps N")
    known = _measured(sets, suite) | {FORGET_TARGET, "epoch"}
    for name in sorted(names - known):
        raise UserError(f"--keep-best: {_why_not(name, known, suite)}")


def _of_retain_model(suite: Suite | None) -> set[str]:
    """What has no value without a retain model."""
    metrics = suite.metrics if suite else ()
    return {one.key for one in metrics if one.retain_needs and not one.retain_optional}


def _measured(sets: Collection[str], suite: Suite | None) -> set[str]:
    probabilities = {f"{name}_prob" for name in sets}
    if suite is None:
        return probabilities
    return probabilities | {metric.key for metric in suite.metrics}


def _why_not(name: str, known: Collection[str], suite: Suite | None) -> str:
    if suite is not None and name in suite.impossible:
        return f"{name} {suite.impossible[name]}"
    return f"no metric {name!r} in this run{nearest(name, known)}"
