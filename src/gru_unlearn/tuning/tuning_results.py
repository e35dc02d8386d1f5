"""From what a fine-tuning logged, and was made of, to what stands in its summary."""

from gru_unlearn.common.sequences import evenly_spread
from gru_unlearn.common.versions import versions
from gru_unlearn.data import fingerprint
from gru_unlearn.results.provenance import RowsSource
from gru_unlearn.results.run_summary import LogRow, RunRecord
from gru_unlearn.results.tuning_summary import KnownPoint, TuningResults, TuningSummary
from gru_unlearn.runs.run_results import Log
from gru_unlearn.training import TuningTrainer
from gru_unlearn.tuning.no_meaning import NO_MEANING
from gru_unlearn.tuning.tuning_preparation import PreparedTuning


def summarize(prepared: PreparedTuning, trainer: TuningTrainer, seconds: float) -> TuningSummary:
    """Everything that a fine-tuning has to tell. One more forward pass says what is known word for word."""
    log = trainer.state.log_history
    points = points_along(log)
    known = {f"{name}_word_for_word": _share_said(trainer, name) for name in trainer.eval_examples}
    shares = {name: share for name, share in known.items() if share is not None}
    return TuningSummary(
        **dict(_record(prepared, seconds)),
        results=TuningResults.model_validate({**points[-1].measured(), **shares}),
        steps=trainer.state.global_step,
        epochs=trainer.state.epoch or 0.0,
        trainable_parameters=trainer.get_num_trainable_parameters(),
        left_out=prepared.rows["train"].left_out,
        trajectory=points,
        log=[LogRow.model_validate(row) for row in log if "loss" in row],
    )


def points_along(log: Log) -> list[KnownPoint]:
    """The evaluations of a run in order; of two at the same step the later one."""
    points = {}
    for row in log:
        if "eval_train_prob" in row:
            measured = {key.removeprefix("eval_"): value for key, value in row.items() if key.startswith("eval_")}
            place = {"step": row["step"], "epoch": row.get("epoch", 0)}
            points[row["step"]] = KnownPoint.model_validate({**measured, **place})
    return list(points.values())


def _share_said(trainer: TuningTrainer, name: str) -> float | None:
    """Of a set's rows that are evaluated along the run, which share is answered, or continued, word for word."""
    return trainer.share_said(evenly_spread(trainer.eval_examples[name], trainer.args.eval_max_rows))


def _record(prepared: PreparedTuning, seconds: float) -> RunRecord:
    """What the result came from; of the settings, those that mean something here."""
    run, data = prepared.run, {}
    for name, rows in prepared.rows.items():
        data[name] = RowsSource(source=rows.source, rows=len(rows.records), sha256=fingerprint(rows.records))
    in_force = {name: value for name, value in run.recipe.in_force.items() if name not in NO_MEANING}
    return RunRecord(
        seed=run.recipe.config.seed,
        seconds=round(seconds, 2),
        settings={**in_force, "stop_at_prob": prepared.options.stop_at_prob},
        data=data,
        model=run.model.provenance,
        output_model=run.claim.folder.model.name,
        versions=versions(),
    )
