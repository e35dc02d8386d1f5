"""From what a run logged, and was made of, to what stands in its summary."""

import math
from collections.abc import Mapping, Sequence

from gru_unlearn.common.versions import versions
from gru_unlearn.data import fingerprint
from gru_unlearn.evaluation.matched import retention_at_matched_forgetting
from gru_unlearn.reporting.forgetting import KNOWN
from gru_unlearn.reporting.tables import shown
from gru_unlearn.results.mark import Mark
from gru_unlearn.results.model_metrics import PLACES, Metrics, Point
from gru_unlearn.results.provenance import ModelSource, RowsSource
from gru_unlearn.results.row_kinds import KEPT
from gru_unlearn.results.run_summary import BestModel, LogRow, RunRecord, RunResults, RunSummary, Stopped
from gru_unlearn.runs.run_learning_rate import own_learning_rate
from gru_unlearn.runs.run_preparation import Prepared
from gru_unlearn.training import UnlearningTrainer

Log = Sequence[Mapping[str, float]]


def summarize(
    prepared: Prepared,
    trainer: UnlearningTrainer,
    mark: Mark | None,
    best: BestModel | None,
    seconds: float,
) -> RunSummary:
    """Everything that a run has to tell; where the best model was kept, its results are that model's."""
    log = trainer.state.log_history
    points = points_along(log)
    summary = RunSummary(
        **dict(record_of(prepared, seconds)),
        results=_results(prepared, log, points, mark, best),
        steps=trainer.state.global_step,
        trajectory=points,
        removed_share_by_layer=_removed_share_by_layer(trainer),
        log=[LogRow.model_validate(row) for row in log if "loss" in row],
    )
    if prepared.recipe.keep_best is not None or best is not None:
        summary.best = best
    if prepared.recipe.config.on_its_own or trainer.stops.found is not None:
        summary.results.stopped = why_stopped(trainer)
    if trainer.own_rate is not None:
        summary.learning_rate = own_learning_rate(trainer)
    return summary


def why_stopped(trainer: UnlearningTrainer) -> Stopped:
    """What brought a run to its end."""
    found, steps = trainer.stops.found, trainer.state.global_step
    if found is not None:
        return Stopped(why=found.why, step=found.step, sentence=found.sentence)
    sentence, goal = f"all {steps} steps are done", trainer.args.stop_at_forget_prob
    points = points_along(trainer.state.log_history)
    reached = points[-1].forget_prob
    if goal is not None and reached > goal:
        advice = "more --max-steps, or a higher --learning-rate"
        if points[0].forget_prob < KNOWN:
            advice = "the model hardly knew the answers before, and there may be nothing to forget"
        sentence += f", and the forget probability is {shown(reached)}, above the goal of {shown(goal)}: {advice}"
    return Stopped(why="last_step", step=steps, sentence=sentence)


def points_along(log: Log) -> list[Point]:
    """The evaluations of a run in order; of two at the same step the later one."""
    points = {}
    for row in log:
        if "eval_forget_prob" in row:
            measured = {key.removeprefix("eval_"): value for key, value in row.items() if key.startswith("eval_")}
            place = {key: row[key] for key in PLACES if key in row}
            points[row["step"]] = Point.model_validate({**measured, **place})
    return list(points.values())


def _results(
    prepared: Prepared, log: Log, points: Sequence[Point], mark: Mark | None, best: BestModel | None
) -> RunResults:
    config = prepared.recipe.config
    saved = points[-1]
    if best is not None:
        saved = next(point for point in points if point.step == best.step)
    found = {**saved.measured(), "conflict_rate": _mean_of("conflict_rate", log)}
    surviving = _mean_of("surviving_share", log)
    if surviving is not None:
        found["surviving_share"] = surviving
    told = {}
    if mark is not None:
        found["forget_target"], told["mark"] = mark.value, mark
        if points[0].step == 0:  # retention is a share of what the target kept
            found |= matched_retention(points, mark.value)
    method = {"objective": config.objective, "rectification": config.rectification}
    if config.resolved_robust is not None:
        method["robust"] = config.robust
    return RunResults.model_validate({**method, **found, **told})


def _mean_of(name: str, log: Log) -> float | None:
    """Over the rows of a log that have it."""
    values = [row[name] for row in log if name in row]
    if not values:
        return None
    return sum(values) / len(values)


def matched_retention(points: Sequence[Metrics], forget_target: float | None) -> dict[str, float | None]:
    """Key → retention at matched forgetting along ``points``, for each kind of rows with anything to keep.

    None: f* was not reached, or there is none.
    """
    trajectory = [dict(point) for point in points]
    found: dict[str, float | None] = {}
    for kind in KEPT:
        if points[0].probability(kind):
            found[kind.rmf] = None
            if forget_target is not None:
                found[kind.rmf] = retention_at_matched_forgetting(trajectory, forget_target, kind.probability)
    return found


def _removed_share_by_layer(trainer: UnlearningTrainer) -> dict[str, float] | None:
    """Of the last step; None without a rectification, or where no step was taken since the run was resumed."""
    if trainer.rectifier is None:
        return None
    shares = trainer.rectifier.removed_share_by_layer()
    return {layer: share for layer, share in shares.items() if math.isfinite(share)} or None


def record_of(prepared: Prepared, seconds: float) -> RunRecord:
    """What a run's result came from: settings, data and models with their hashes, versions."""
    recipe = prepared.recipe
    data = {}
    for name, rows in prepared.sets.items():
        data[name] = RowsSource(source=prepared.source_of(name), rows=len(rows), sha256=fingerprint(rows))
        if name in prepared.found:
            data[name].found = prepared.found[name]
    if prepared.control is not None and recipe.control_rows is not None:
        made = prepared.control.records
        data["control_rows"] = RowsSource(source=recipe.control_rows, rows=len(made), sha256=fingerprint(made))
    retain_model = ModelSource(source=recipe.retain_model, sha256=None)
    if prepared.retain_model is not None:
        retain_model = prepared.retain_model.provenance
    record = RunRecord(
        seed=recipe.config.seed,
        seconds=round(seconds, 2),
        settings=recipe.in_force | {name: prepared.source_of(name) for name in prepared.found},
        data=data,
        model=prepared.model.provenance,
        retain_model=retain_model,
        output_model=prepared.claim.folder.model.name,
        versions=versions(),
    )
    if prepared.base_model is not None:
        record.base_model = prepared.base_model.provenance
    return record
