"""What a run of the matrix says: its numbers, read from its folder, and what it took to f*."""

from collections.abc import Sequence
from functools import partial

from gru_unlearn.comparison.matrix import Cell
from gru_unlearn.evaluation.matched import cost_at_matched_forgetting, retention_at_matched_forgetting
from gru_unlearn.results.comparison_summary import CELL_FILE, AlongTheRun, CellRecord, CellResult
from gru_unlearn.results.cost_kinds import COSTS
from gru_unlearn.results.file_model import JsonObject
from gru_unlearn.results.model_metrics import Point
from gru_unlearn.results.row_kinds import KEPT
from gru_unlearn.results.run_folder import RunFolder
from gru_unlearn.results.run_summary import RunSummary
from gru_unlearn.runs.recipe import make_recipe
from gru_unlearn.training.method import rows_of_a_step

LEVELS = {"half": 0.5, "quarter": 0.25}
"""Shares of the target's forget probability at which retention is read, too."""

CURVE_PARTS = 32


def read_cell(cell: Cell, failure: str | None) -> CellResult:
    """A run's numbers, read from its folder.

    Args:
        cell: the run; one that did not end counts as failed.
        failure: why its process failed, if it did: a run that ended but could not be evaluated is done and says so.
    """
    who = {name: getattr(cell, name) for name in ("name", "objective", "rectification", "learning_rate", "seed")}
    summary = RunSummary.read(RunFolder(cell.folder).summary_file)
    if summary is None:
        return CellResult.model_validate({**who, "status": "failed", "reason": failure})
    record = CellRecord.read(cell.folder / CELL_FILE) or CellRecord()
    target = summary.results.forget_target
    assert target is not None  # no comparison begins without a mark
    found = {
        **summary.results.to_json(),
        **record.cost,
        **record.shown,
        **along_the_run(summary.trajectory, target).to_json(),
        **costs_at_target(cell, summary, record, target),
        **who,
        "status": "done",
        "steps": summary.steps,
        "metrics": record.metrics,
        "missing": record.missing,
        "said": record.said,
        "trajectory": summary.trajectory,
    }
    if failure:
        found["evaluation_failed"] = failure
    return CellResult.model_validate(found)


def costs_at_target(cell: Cell, summary: RunSummary, record: CellRecord, forget_target: float) -> JsonObject:
    """Steps, rows and seconds to f*. Of a run that did not count along its way they are worked out from its steps."""
    points, estimated = summary.trajectory, False
    if any(point.rows is None or point.seconds is None for point in points):
        rows = rows_of_a_step(make_recipe(cell.settings).config)
        points, estimated = estimated_costs(points, rows, record.cost.get("seconds_per_step")), True
    trajectory = [dict(point) for point in points]
    found: JsonObject = {}
    for cost in COSTS:
        found[cost.key] = cost_at_matched_forgetting(trajectory, forget_target, cost.along)
    if estimated:
        found["cost_estimated"] = True
    return found


def estimated_costs(points: Sequence[Point], rows: int, seconds: float | None) -> list[Point]:
    """Points with what they would have taken if every step took so many rows and seconds; what they say goes first."""
    found = []
    for point in points:
        likely = {"rows": point.step * rows, "seconds": None if seconds is None else point.step * seconds}
        said = {name: value for name, value in point if value is not None}
        found.append(Point.model_validate(likely | said))
    return found


def along_the_run(points: Sequence[Point], forget_target: float) -> AlongTheRun:
    """What a trajectory says beside RMF: steps to f* (by its evaluations), retention at a half and a quarter, curves.

    A curve's levels are evenly spaced from the target's forget probability down to f*, each read at its first crossing.
    """
    steps = next((point.step for point in points if point.forget_prob <= forget_target), None)
    start, trajectory = points[0], [dict(point) for point in points]
    levels = [start.forget_prob + (forget_target - start.forget_prob) * i / CURVE_PARTS for i in range(CURVE_PARTS + 1)]
    retention: dict[str, float | None] = {}
    curves = {}
    for kind in KEPT:
        whole = start.probability(kind)
        if whole is None:
            continue
        retention_at = partial(retention_at_matched_forgetting, trajectory, kept=kind.probability)
        for word, part in LEVELS.items():
            level = part * start.forget_prob
            before_end = level >= forget_target  # a run stops at f*; what lies below it is reached by chance
            retention[f"{kind.rmf}_at_{word}"] = retention_at(level) if before_end else None
        shares = [(level, retention_at(level)) for level in levels]
        curves[kind.probability] = [(level, share * whole) for level, share in shares if share is not None]
    return AlongTheRun.model_validate({"steps_to_target": steps, "curves": curves, **retention})
