"""A comparison's tables of cost: what it takes to get to f*, and the frontier over all learning rates."""

from collections.abc import Sequence
from functools import partial

from rich.table import Table

from gru_unlearn.comparison.method_columns import (
    NAME,
    RATE,
    REACHED,
    STEPS_TO_TARGET,
    Column,
    any_has,
    kept_column,
    mean_column,
    method_table,
    short,
)
from gru_unlearn.results.comparison_summary import (
    ComparisonSummary,
    Frontier,
    FrontierPoint,
    MethodFrontier,
    MethodResult,
    Spread,
)
from gru_unlearn.results.cost_kinds import COSTS, STEPS, CostKind
from gru_unlearn.results.row_kinds import HELD_OUT, RETAIN, RowKind

COST_READING = (
    "Steps, row passes and seconds are those to f*, interpolated as RMF is. A row that goes through the model once, "
    "forward and backward, is one pass; seconds are of training steps alone."
)

FRONTIER_READING = (
    "Frontier: own, a learning rate with which every seed gets to f*, and no other one of the method keeps as much for "
    "fewer {cost}; joint, nor does any of another method. Area: the most that a method keeps within so many {cost}, "
    "averaged over the logarithm of their number; 0 where the method is not at f* yet."
)

ESTIMATED = (
    "{some} of {all} runs did not count rows or seconds on their way: theirs are their steps times the rows of a full "
    "step, and times the median seconds of a step."
)


def cost_of(frontier: Frontier) -> CostKind:
    """What the frontier is measured in."""
    return next(cost for cost in COSTS if cost.along == frontier.cost)


def kept_of(frontier: Frontier) -> RowKind:
    """Whose retention the frontier is about."""
    return next(kind for kind in (HELD_OUT, RETAIN) if kind.rmf == frontier.kept)


def cost_table(objective: str, rows: Sequence[MethodResult], frontier: Frontier | None) -> Table:
    """What it takes to get to f*, and what the method can do over all of its learning rates."""
    columns: list[Column] = [NAME, RATE]
    columns += [mean_column(cost.label, cost.key, cost.form) for cost in COSTS if any_has(rows, cost.key)]
    if not any_has(rows, STEPS.key):
        columns.append(STEPS_TO_TARGET)
    columns += [mean_column("s/step", "seconds_per_step", ".3f"), _memory_column(rows)]
    if frontier is not None:
        columns += [("area", partial(_area, frontier)), ("frontier", partial(_joint, frontier))]
    return method_table(f"{objective}: what it takes to get to f*, mean", columns, rows)


def _memory_column(rows: Sequence[MethodResult]) -> Column:
    if any_has(rows, "peak_gpu_memory_mb"):
        return mean_column("GPU MB", "peak_gpu_memory_mb", ".0f")
    return mean_column("peak MB", "peak_memory_mb", ".0f")


def grid_table(objective: str, rows: Sequence[MethodResult], frontier: Frontier | None) -> Table:
    """Every learning rate, what decided which one is shown above, and its place on the frontier."""
    columns: list[Column] = [NAME, ("lr", _marked_rate), REACHED]
    title = f"{objective}: all learning rates (✓ chosen)"
    if frontier is None:
        return method_table(title, [*columns, kept_column("RMF", RETAIN.rmf), STEPS_TO_TARGET], rows)
    columns += _frontier_columns(frontier)
    return method_table(f"{title}, median (range) over seeds", columns, rows)


def _marked_rate(row: MethodResult) -> str:
    rate = short(row.learning_rate)
    return f"✓ {rate}" if row.chosen else rate


def _frontier_columns(frontier: Frontier) -> list[Column]:
    cost, kept = cost_of(frontier), kept_of(frontier)

    def keeps(row: MethodResult) -> str:
        point = frontier.point_of(row)
        return "–" if point is None else _spread(point.kept, ".3f")

    def takes(row: MethodResult) -> str:
        point = frontier.point_of(row)
        return "–" if point is None else _spread(point.cost, cost.form)

    return [
        (f"RMF {kept.label}", keeps),
        (cost.label, takes),
        ("frontier", lambda row: _place(frontier.point_of(row))),
    ]


def _spread(spread: Spread, form: str) -> str:
    """``0.973 (0.956–0.981)``."""
    if spread.low == spread.high:
        return f"{spread.median:{form}}"
    return f"{spread.median:{form}} ({spread.low:{form}}–{spread.high:{form}})"


def _place(point: FrontierPoint | None) -> str:
    if point is None or not point.own:
        return ""
    return "joint" if point.joint else "own"


def _area(frontier: Frontier, row: MethodResult) -> str:
    found = frontier.of(row)
    return "–" if found is None or found.area is None else f"{found.area:.3f}"


def _joint(frontier: Frontier, row: MethodResult) -> str:
    found = frontier.of(row)
    return "joint" if found is not None and found.joint else ""


def cost_notes(summary: ComparisonSummary) -> list[str]:
    """How to read costs and the frontier, what methods are on it, and which costs were not counted."""
    frontier = summary.frontier
    if frontier is None:
        return []
    cost = cost_of(frontier)
    notes = [COST_READING, FRONTIER_READING.format(cost=cost.label)]
    for objective, (low, high) in frontier.ranges.items():
        best = [one for one in frontier.methods if one.objective == objective and one.joint]
        notes.append(
            f"On the joint frontier of {objective}: {_by_area(best)}. "
            f"Its areas are from {low:{cost.form}} to {high:{cost.form}} {cost.label}."
        )
    some = sum(cell.cost_estimated for cell in summary.cells)
    if some:
        notes.append(ESTIMATED.format(some=some, all=len(summary.cells)))
    return notes


def _by_area(methods: Sequence[MethodFrontier]) -> str:
    """Names, that of the greatest area first."""
    ordered = sorted(methods, key=lambda one: -(one.area or 0.0))
    return ", ".join(one.rectification for one in ordered)
