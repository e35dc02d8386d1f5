"""What a run of the matrix says: its numbers, read from its folder."""

from collections.abc import Sequence
from functools import partial

from gru_unlearn.comparison.matrix import Cell
from gru_unlearn.evaluation.matched import retention_at_matched_forgetting
from gru_unlearn.results.comparison_summary import CELL_FILE, AlongTheRun, CellRecord, CellResult
from gru_unlearn.results.model_metrics import Point
from gru_unlearn.results.row_kinds import KEPT
from gru_unlearn.results.run_folder import RunFolder
from gru_unlearn.results.run_summary import RunSummary

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
    assert target is not None  # no comparison begins without a retain model
    found = {
        **summary.results.to_json(),
        **record.cost,
        **record.shown,
        **along_the_run(summary.trajectory, target).to_json(),
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
