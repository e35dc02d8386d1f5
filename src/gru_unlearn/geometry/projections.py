"""What is done with u, r and the place that takes the result: one object, chosen once from a rectification."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from gru_unlearn.geometry.blocks import INSIDE_TENSORS, Measures, group_names, rectify_groups_, rectify_within_
from gru_unlearn.geometry.cone import Solver, rectify_against_
from gru_unlearn.geometry.products import Vector
from gru_unlearn.geometry.rectification import Rectification
from gru_unlearn.geometry.rules import Rule


class Projection(Protocol):
    """A rectification of whole vectors, whatever their blocks are."""

    @property
    def rule(self) -> Rule | Solver:
        """Where its factors come from: a rule with one r, a solver with several."""

    def __call__(self, vector: Vector, directions: Sequence[Vector], target: Vector | None = None) -> Measures:
        """Rectify a vector against the retain directions: in place, or in what it does to ``target``."""


@dataclass(frozen=True, slots=True)
class OnWholeTensors:
    """A rule for each group of tensors, against one r."""

    rule: Rule
    groups: Sequence[str]

    def __call__(self, vector: Vector, directions: Sequence[Vector], target: Vector | None = None) -> Measures:
        """a·u + b·r by group."""
        (r,) = directions
        return rectify_groups_(vector, r, self.groups, self.rule, target)


@dataclass(frozen=True, slots=True)
class InsideTensors:
    """A rule for each row or element, against one r."""

    rule: Rule
    granularity: str

    def __call__(self, vector: Vector, directions: Sequence[Vector], target: Vector | None = None) -> Measures:
        """a·u + b·r by row or element."""
        (r,) = directions
        return rectify_within_(vector, r, self.granularity, self.rule, target)


@dataclass(frozen=True, slots=True)
class AgainstSeveral:
    """A solver for each group of tensors, against all directions at once; its metric may be another at each step."""

    rule: Solver
    groups: Sequence[str]
    metric: Callable[[], Vector | None]

    def __call__(self, vector: Vector, directions: Sequence[Vector], target: Vector | None = None) -> Measures:
        """u + Σ v_k r_k by group."""
        return rectify_against_(vector, directions, self.groups, self.rule, target, self.metric())


def choose_projection(
    chosen: Rectification, names: dict[nn.Parameter, str], optimizer: torch.optim.Optimizer
) -> Projection:
    """The projection that a rectification stands for.

    Args:
        chosen: the rectification.
        names: the parameters that the vectors span, with their names.
        optimizer: its preconditioner is the metric of a member that asks for one.
    """
    member = chosen.member
    groups = group_names(list(names.values()), chosen.granularity)
    if chosen.holds_several:
        assert member.solver is not None, "Rectification has seen to it"
        metric = partial(preconditioner, optimizer, list(names)) if member.in_optimizer_metric else _euclidean
        return AgainstSeveral(member.solver, groups, metric)

    assert member.make_rule is not None, "without one, several are held"
    rule = member.make_rule()
    if chosen.granularity in INSIDE_TENSORS:
        return InsideTensors(rule, chosen.granularity)
    return OnWholeTensors(rule, groups)


def preconditioner(optimizer: torch.optim.Optimizer, params: Sequence[nn.Parameter]) -> Vector | None:
    """Adam's diagonal preconditioner, 1/(√v + ε), of the last step; None where the optimizer has none (yet)."""
    squares = [optimizer.state.get(p, {}).get("exp_avg_sq") for p in params]
    if all(v is None for v in squares):
        return None
    eps: dict[nn.Parameter, float] = {}
    for group in optimizer.param_groups:
        eps |= dict.fromkeys(group["params"], group.get("eps", 1e-8))
    return [_inverse_root(v, eps[p]) for v, p in zip(squares, params, strict=True)]


def _inverse_root(v: Tensor | None, eps: float) -> Tensor | None:
    if v is None:
        return None
    return 1 / (v.sqrt() + eps)


def _euclidean() -> None:
    return None
