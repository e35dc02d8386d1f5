"""What is done with u, r and the place that takes the result: one function, chosen once from a rectification."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from gru_unlearn.geometry.blocks import INSIDE_TENSORS, Measures, group_names, rectify_groups_, rectify_within_
from gru_unlearn.geometry.cone import Solver, rectify_against_
from gru_unlearn.geometry.preconditioner import preconditioner
from gru_unlearn.geometry.products import Vector
from gru_unlearn.geometry.rectification import Rectification
from gru_unlearn.geometry.retain_metric import RetainMetric
from gru_unlearn.geometry.rules import Rule

Projection = Callable[[Vector, Sequence[Vector], Vector | None], Measures]
"""Rectifies a vector against the retain directions: in place, or in what it does to a target."""


def turned_first(metric: RetainMetric, projection: Projection) -> Projection:
    """A projection of displacements that are turned in a metric before."""

    def turn_and_rectify(vector: Vector, directions: Sequence[Vector], target: Vector | None) -> Measures:
        assert target is not None, "Rectification has seen to it"
        (r,) = directions
        metric.turn_(vector, r, target)
        return projection(vector, directions, target)

    return turn_and_rectify


def choose_projection(
    chosen: Rectification, names: dict[nn.Parameter, str], optimizer: torch.optim.Optimizer
) -> tuple[Rule | Solver, Projection]:
    """Where the factors come from (a rule with one r, a solver with several), and what is done with them.

    Args:
        chosen: the rectification.
        names: the parameters that the vectors span, with their names.
        optimizer: its preconditioner is the metric of a member that asks for one.
    """
    member = chosen.member
    params = list(names)
    groups = group_names(list(names.values()), chosen.granularity)
    if chosen.holds_several:
        solver = member.solver
        assert solver is not None, "Rectification has seen to it"

        def against_several(vector: Vector, directions: Sequence[Vector], target: Vector | None) -> Measures:
            metric = preconditioner(optimizer, params) if member.in_optimizer_metric else None
            return rectify_against_(vector, directions, groups, solver, target, metric)

        return solver, against_several

    rule = chosen.make_rule()

    def against_one(vector: Vector, directions: Sequence[Vector], target: Vector | None) -> Measures:
        (r,) = directions
        if chosen.granularity in INSIDE_TENSORS:
            return rectify_within_(vector, r, chosen.granularity, rule, target)
        return rectify_groups_(vector, r, groups, rule, target)

    return rule, against_one
