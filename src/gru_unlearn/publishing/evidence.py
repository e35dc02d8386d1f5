"""From summaries to the numbers that a verdict judges."""

from collections.abc import Sequence
from statistics import fmean

from gru_unlearn.reporting.example_table import word_diff
from gru_unlearn.reporting.verdict import Evidence, Kept
from gru_unlearn.results.evaluation_summary import EvaluationSummary
from gru_unlearn.results.model_metrics import UNMEASURED
from gru_unlearn.results.row_examples import ExampleRow, Examples, Moment
from gru_unlearn.results.row_kinds import FORGET, KEPT, RowKind
from gru_unlearn.results.run_summary import RunSummary


def run_evidence(summary: RunSummary, examples: Examples | None) -> Evidence:
    """A run's numbers for its verdict."""
    start, end, results = summary.start or UNMEASURED, summary.end, summary.results
    kept = {}
    for kind in KEPT:
        after = end.probability(kind)
        if after is not None:
            retain = by_retain_model(examples, kind)
            kept[kind.label] = Kept(start.probability(kind), after, *retain, results.get(kind.rmf))
    forget = start.forget_prob, end.forget_prob, results.forget_target, end.get("forget_quality")
    return Evidence(*forget, *recited(examples), kept=kept)


def evaluation_evidence(
    summary: EvaluationSummary, forget_retain_model: float | None, examples: Examples | None
) -> Evidence:
    """An evaluation knows one model, and of the retain model what the metrics needed."""
    metrics = summary.metrics
    kept = {kind.label: Kept(None, metrics[kind.metric]) for kind in KEPT if metrics.get(kind.metric) is not None}
    forget = None, metrics.get(FORGET.metric), forget_retain_model, metrics.get("forget_quality")
    return Evidence(*forget, *recited(examples), kept=kept)


def recited(examples: Examples | None) -> tuple[int | None, int | None, int]:
    """Recorded forget rows that the model answers word for word; those that the retain model does; how many asked."""
    if examples is None or FORGET.key not in examples.sets:
        return None, None, 0
    rows = examples.sets[FORGET.key].rows
    by_model, asked = _word_for_word(rows, "after")
    by_retain_model, _ = _word_for_word(rows, "retain_model")
    return by_model, by_retain_model, asked


def _word_for_word(rows: Sequence[ExampleRow], moment: Moment) -> tuple[int | None, int]:
    """How many rows a model answers exactly, None where it was asked none, and how many it was asked."""
    exact = asked = 0
    for row in rows:
        seen = row.seen(moment)
        if seen is not None and seen.says is not None:
            asked += 1
            exact += not word_diff(row.answer, seen.says)
    if asked == 0:
        return None, 0
    return exact, asked


def by_retain_model(examples: Examples | None, kind: RowKind) -> tuple[float | None, int | None]:
    """The retain model's mean probability over a set's recorded rows, and how many these are unless all."""
    if examples is None or kind.key not in examples.sets:
        return None, None
    part = examples.sets[kind.key]
    seen = [row.retain_model for row in part.rows if row.retain_model is not None]
    known = [one.probability for one in seen if one.probability is not None]
    if not known:
        return None, None
    return fmean(known), None if len(known) == part.rows_in_set else len(known)
