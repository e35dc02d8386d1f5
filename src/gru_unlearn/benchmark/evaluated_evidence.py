"""What a verdict judges of an evaluation: its scores, and what a run that lies around the model knew before."""

from collections.abc import Mapping
from pathlib import Path

from gru_unlearn.benchmark.evaluated_rows import Tables, answered, mean_probability
from gru_unlearn.common.files import UnreadableFile
from gru_unlearn.errors import UserError
from gru_unlearn.reporting.broken_answers import said_of
from gru_unlearn.reporting.evidence import Evidence, Kept
from gru_unlearn.reporting.judge import verdict_of
from gru_unlearn.reporting.measured import rows_of, run_evidence, said_by_share
from gru_unlearn.results.evaluation_summary import EvaluationSummary
from gru_unlearn.results.provenance import RowsSource
from gru_unlearn.results.row_examples import Examples
from gru_unlearn.results.row_kinds import FORGET, KEPT, RowKind
from gru_unlearn.results.run_folder import RunFolder
from gru_unlearn.results.run_summary import RunSummary, TruSummary
from gru_unlearn.results.summaries import read_summary
from gru_unlearn.results.verdict import Said, Verdict

STAND_FOR_ALL = 32
"""Rows of a set, evenly spread, whose mean stands for that of all."""


def evaluation_verdict(summary: EvaluationSummary, tables: Tables) -> Verdict:
    """On the model that was evaluated; nobody attacked it here."""
    return verdict_of(evaluation_evidence(summary, tables))


def evaluation_evidence(summary: EvaluationSummary, tables: Tables) -> Evidence:
    """An evaluation knows one model and the retain model's scores; of the model before it knows what its run did."""
    metrics, before = summary.metrics, _before_the_run(summary)
    model, retain_model = tables.get("model"), tables.get("retain_model")
    said = said_of(answered(model, FORGET.key))
    if said is None:
        said = said_by_share(metrics.get("forget_exact_answers"), rows_of(summary.data))
    known = mean_probability(retain_model, FORGET.key)
    return Evidence(
        before.forget_before,
        metrics.get(FORGET.metric),
        before.forget_retain_model if known is None else known,
        metrics.get("forget_quality"),
        rows_of(summary.data),
        said,
        before.said_before,
        said_of(answered(retain_model, FORGET.key)) or before.said_by_retain_model,
        {kind.label: _kept(kind, summary, tables, before) for kind in KEPT if metrics.get(kind.metric) is not None},
        before.other_mark,
        before.tried,
    )


def _kept(kind: RowKind, summary: EvaluationSummary, tables: Tables, before: Evidence) -> Kept:
    known = before.kept.get(kind.label, Kept(None, None))
    said = said_of(answered(tables.get("model"), kind.key))
    by_retain_model = mean_probability(tables.get("retain_model"), kind.key)
    return Kept(
        known.before, summary.metrics[kind.metric], by_retain_model, said=said, said_before=_if_asked(said, known)
    )


def _if_asked(said: Said | None, known: Kept) -> Said | None:
    return None if said is None else known.said_before


# --- the run around the model ----------------------------------------------------------------------------------------


def _before_the_run(summary: EvaluationSummary) -> Evidence:
    """What the run in whose folder the model lies measured of the model before, on the same rows or many of them.

    Without such a run nobody is known to have removed anything.
    """
    place = summary.model.folder or summary.model.source
    if place is None:
        return Evidence(tried=False)
    folder = RunFolder(Path(place).expanduser().parent)
    try:
        run, examples = read_summary(folder.summary_file), Examples.read(folder.examples_file)
    except (OSError, UnreadableFile, UserError):
        return Evidence(tried=False)
    if not isinstance(run, RunSummary | TruSummary) or run.output_model != Path(place).name:
        return Evidence(tried=False)
    if isinstance(run, TruSummary):
        return Evidence()
    seen = {name: rows for name, rows in run.data.items() if _saw_enough(run, rows)}
    return _on_same_rows(run_evidence(run, examples), seen, summary.data)


def _saw_enough(run: RunSummary, rows: RowsSource) -> bool:
    """Whether the run's evaluations looked at all of a set, or at so many that they stand for it."""
    most = run.settings.get("eval_max_rows")
    return not isinstance(most, int) or most >= min(rows.rows or most, STAND_FOR_ALL)


def _on_same_rows(found: Evidence, had: Mapping[str, RowsSource], now: Mapping[str, RowsSource]) -> Evidence:
    same = {name for name, rows in now.items() if name in had and had[name].sha256 == rows.sha256}
    labels = {kind.label for kind in KEPT if kind.key in same}
    kept = {label: known for label, known in found.kept.items() if label in labels}
    if FORGET.key not in same:
        return Evidence(kept=kept)
    return Evidence(
        found.forget_before,
        forget_retain_model=found.forget_retain_model,
        said_before=found.said_before,
        said_by_retain_model=found.said_by_retain_model,
        kept=kept,
        other_mark=found.other_mark,
    )
