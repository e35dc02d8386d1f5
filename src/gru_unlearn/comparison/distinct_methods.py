"""Methods of a comparison are others than each other: two that run alike would be a difference of nothing."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from gru_unlearn.comparison.matrix import OF_A_METHOD, Cell, Matrix, parse_method
from gru_unlearn.errors import UserError
from gru_unlearn.runs.idle_settings import idle_settings
from gru_unlearn.runs.recipe import Recipe


def check_distinct(matrix: Matrix, cells: Sequence[Cell], recipes: Sequence[Recipe]) -> None:
    """Whether each method is what its name says, and none is another one under a second name.

    Raises:
        UserError: a setting after @ that does nothing beside any objective; or two methods that run alike.
    """
    _check_own_settings_act(cells, recipes)
    runs: dict[str, list[Any]] = {}
    for cell, recipe in zip(cells, recipes, strict=True):
        runs.setdefault(cell.rectification, []).append((cell.objective, _as_it_runs(recipe)))
    raised = {rectification for _, rectification in matrix.terms.raised}
    for one, other in combinations(runs, 2):
        if runs[one] != runs[other]:
            continue
        way_out = "leave one of them out"
        if raised & {one, other}:
            way_out = "pass --equal passes or --equal time, under which each has its own retain rows, or " + way_out
        raise UserError(f"--rectifications: {other} would run exactly as {one} does: {way_out}")


def _as_it_runs(recipe: Recipe) -> tuple[Any, ...]:
    """What a method comes to, however it is spelled."""
    config = recipe.config
    resolved = (
        str(config.resolved_rectification),
        config.resolved_gradient_weight,
        config.resolved_retain_batch_size,
        config.resolved_forget_candidates,
        config.retain_term_weight,
        config.resolved_retain_loss,
        config.retain_placement or "inside",
        config.resolved_robust,
    )
    settled = (
        "forget_candidates", "new_gradient_weight", "retain_batch_size", "retain_weight", "retain_loss",
        "retain_placement", "robust",
    )  # fmt: skip
    as_set = [getattr(config, name) for name in OF_A_METHOD if name not in settled]
    return *resolved, *as_set


def _check_own_settings_act(cells: Sequence[Cell], recipes: Sequence[Recipe]) -> None:
    idle: dict[tuple[str, str], str] = {}
    acting = set()
    for cell, recipe in zip(cells, recipes, strict=True):
        does_nothing = idle_settings(recipe)
        for name in parse_method(cell.rectification).keys() - {"rectification"}:
            if name in does_nothing:
                idle[cell.rectification, name] = does_nothing[name]
            else:
                acting.add((cell.rectification, name))
    for (method, name), needs in idle.items():
        if (method, name) not in acting:
            raise UserError(f"method {method!r}: {name} needs {needs}, or leave it out")
