"""The frontier: what methods keep at f* against what it takes them to get there, over all of their learning rates."""

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Literal, NamedTuple

from gru_unlearn.results.comparison_summary import CellResult, Frontier, FrontierPoint, Method, MethodFrontier, Spread
from gru_unlearn.results.cost_kinds import ROWS, SECONDS, STEPS, CostKind
from gru_unlearn.results.row_kinds import HELD_OUT


class Place(NamedTuple):
    """What something costs, and what it keeps."""

    cost: float
    kept: float


def efficient(places: Sequence[Place]) -> list[bool]:
    """Of each place whether it is on the frontier: no other keeps as much for less, or more for as much."""
    return [not any(_dominates(other, place) for other in places) for place in places]


def _dominates(one: Place, other: Place) -> bool:
    return one.cost <= other.cost and one.kept >= other.kept and one != other


def area_under(places: Sequence[Place], low: float, high: float) -> float:
    """The most that is kept within a cost, averaged over the logarithm of the cost from ``low`` to ``high``.

    Within costs that allow no place yet, nothing is kept. Where ``low`` is ``high``, it is what is kept within that.
    """
    if low >= high:
        return _most_within(places, high)
    edges = sorted({low, high, *(place.cost for place in places if low < place.cost < high)})
    parts = [math.log(end / begin) * _most_within(places, begin) for begin, end in pairwise(edges)]
    return sum(parts) / math.log(high / low)


def _most_within(places: Sequence[Place], cost: float) -> float:
    return max((place.kept for place in places if place.cost <= cost), default=0.0)


def find_frontier(cells: Sequence[CellResult], preferred: CostKind = SECONDS) -> Frontier | None:
    """Of all methods and learning rates with which every seed gets to f*; None where there is no such one.

    Args:
        cells: all runs.
        preferred: the cost; where no run has it, rows, then steps.
    """
    kept: Literal["rmf_held_out", "rmf"] = "rmf_held_out"
    if all(cell.get(HELD_OUT.rmf) is None for cell in cells):
        kept = "rmf"
    for cost in (preferred, ROWS, STEPS):
        points = _points(cells, cost, kept)
        if points:
            return _frontier(cells, points, cost, kept)
    return None


def _points(cells: Sequence[CellResult], cost: CostKind, kept: str) -> list[FrontierPoint]:
    groups: dict[tuple[str, str, float], list[CellResult]] = {}
    for cell in cells:
        groups.setdefault(cell.method, []).append(cell)
    found = (_point(group, cost, kept) for group in groups.values())
    return [point for point in found if point is not None]


def _point(cells: Sequence[CellResult], cost: CostKind, kept: str) -> FrontierPoint | None:
    """None where a seed did not get to f*: without it, the median would be that of the others."""
    costs, keeps = _spread(cells, cost.key), _spread(cells, kept)
    if costs is None or keeps is None or costs.low <= 0:  # one that has nothing to forget
        return None
    who = {name: getattr(cells[0], name) for name in Method.model_fields}
    return FrontierPoint(**who, cost=costs, kept=keeps, own=False, joint=False)


def _spread(cells: Sequence[CellResult], name: str) -> Spread | None:
    values = [cell.get(name) if cell.done else None for cell in cells]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return Spread(median=median(known), low=min(known), high=max(known))


def place_of(point: FrontierPoint) -> Place:
    """Medians over the seeds."""
    return Place(point.cost.median, point.kept.median)


def _frontier(
    cells: Sequence[CellResult], points: list[FrontierPoint], cost: CostKind, kept: Literal["rmf_held_out", "rmf"]
) -> Frontier:
    methods = list(dict.fromkeys((cell.objective, cell.rectification) for cell in cells))
    for method in methods:
        _mark([point for point in points if (point.objective, point.rectification) == method], "own")
    ranges = {}
    for objective in dict.fromkeys(point.objective for point in points):
        of_objective = [point for point in points if point.objective == objective]
        _mark(of_objective, "joint")
        costs = [point.cost.median for point in of_objective if point.own]
        ranges[objective] = min(costs), max(costs)
    lines = [_line(method, points, ranges) for method in methods]
    return Frontier.model_validate(
        {"cost": cost.along, "kept": kept, "ranges": ranges, "points": points, "methods": lines}
    )


def _mark(points: Sequence[FrontierPoint], name: Literal["own", "joint"]) -> None:
    """Those on the frontier of these points."""
    for point, is_on in zip(points, efficient([place_of(point) for point in points]), strict=True):
        setattr(point, name, is_on)


def _line(
    method: tuple[str, str], points: Sequence[FrontierPoint], ranges: dict[str, tuple[float, float]]
) -> MethodFrontier:
    own = [point for point in points if (point.objective, point.rectification) == method]
    area = None
    if own:
        area = area_under([place_of(point) for point in own], *ranges[method[0]])
    on_joint = any(point.joint for point in own)
    return MethodFrontier(objective=method[0], rectification=method[1], area=area, joint=on_joint)
