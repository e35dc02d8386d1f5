"""What a run of the matrix says: its numbers, read from its folder."""

from collections.abc import Mapping, Sequence

from gru_unlearn.comparison.cell_jobs import CELL_FILE
from gru_unlearn.comparison.comparison_suite import shown_metrics
from gru_unlearn.comparison.matrix import Cell
from gru_unlearn.evaluation.matched import retention_at_matched_forgetting
from gru_unlearn.results.comparison_summary import AlongTheRun, CellRecord, CellResult
from gru_unlearn.results.model_metrics import Point
from gru_unlearn.results.row_kinds import FORGET, KEPT, RowKind
from gru_unlearn.results.run_folder import RunFolder
from gru_unlearn.results.run_summary import RunSummary

LEVELS = {"half": 0.5, "quarter": 0.25}
"""Shares of the target's forget probability at which retention is read, too."""

CURVE_POINTS = 33


def read_cell(cell: Cell, failure: str | None) -> CellResult:
    """A run's numbers, read from its folder.

    Args:
        cell: the run; one that did not end counts as failed.
        failure: why its process failed, if it did: a run that ended but could not be evaluated is done and says so.
    """
    who = {
        "name": cell.name,
        "objective": cell.objective,
        "rectification": cell.rectification,
        "learning_rate": cell.learning_rate,
        "seed": cell.seed,
    }
    summary = RunSummary.read(RunFolder(cell.folder).summary_file)
    if summary is None:
        return CellResult.model_validate({**who, "status": "failed", "reason": failure})
    record = CellRecord.read(cell.folder / CELL_FILE) or CellRecord()
    target = summary.results.forget_target
    assert target is not None  # each run of a comparison has a retain model
    numbers = {
        **summary.results.to_json(),
        **(record.cost.to_json() if record.cost else {}),
        **shown_metrics(record.metrics or {}),
        **along_the_run(summary.trajectory, target).to_json(),
        **who,
        "status": "done",
        "steps": summary.steps,
        "metrics": record.metrics,
        "missing": record.missing,
        "trajectory": summary.trajectory,
    }
    if failure:
        numbers["evaluation_failed"] = failure
    return CellResult.model_validate(numbers)


def along_the_run(points: Sequence[Point], forget_target: float) -> AlongTheRun:
    """What a trajectory says beside RMF: steps to f* (by its evaluations), retention at a half and a quarter, curves.

    A curve's levels are evenly spaced from the target's forget probability down to f*, each read at its first crossing.
    """
    arrived = [point.step for point in points if point.forget_prob is not None and point.forget_prob <= forget_target]
    retention: dict[str, float | None] = {}
    curves = {}
    for kind in KEPT:
        path = _path(points, kind)
        if not path:
            continue
        for word, share in LEVELS.items():
            retention[f"{kind.rmf}_at_{word}"] = _retention_before(path, kind, share, forget_target)
        curves[kind.probability] = _curve(path, kind, forget_target)
    steps = arrived[0] if arrived else None
    return AlongTheRun.model_validate({"steps_to_target": steps, "curves": curves, **retention})


def _path(points: Sequence[Point], kind: RowKind) -> list[dict[str, float]]:
    """Forgetting and keeping at each evaluation; empty where these rows were not measured."""
    path = []
    for point in points:
        forget, kept = point.forget_prob, point.probability(kind)
        if forget is not None and kept is not None:
            path.append({FORGET.probability: forget, kind.probability: kept})
    return path


def _retention_before(
    path: Sequence[Mapping[str, float]], kind: RowKind, share: float, forget_target: float
) -> float | None:
    level = share * path[0][FORGET.probability]
    if level < forget_target:  # a run stops at f*; what lies below it is reached by chance
        return None
    return retention_at_matched_forgetting(path, level, kind.probability)


def _curve(path: Sequence[Mapping[str, float]], kind: RowKind, forget_target: float) -> list[tuple[float, float]]:
    start, whole = path[0][FORGET.probability], path[0][kind.probability]
    curve = []
    for i in range(CURVE_POINTS):
        level = start + (forget_target - start) * i / (CURVE_POINTS - 1)
        share = retention_at_matched_forgetting(path, level, kind.probability)
        if share is not None:
            curve.append((level, share * whole))
    return curve
