"""From summaries to the numbers that a verdict judges."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, median

from gru_unlearn.publishing.material import Material, Row
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
    return Evidence(
        start.forget_prob,
        end.forget_prob,
        results.forget_target,
        end.get("forget_quality"),
        *recited(examples),
        kept=kept,
    )


def evaluation_evidence(
    summary: EvaluationSummary, forget_retain_model: float | None, examples: Examples | None
) -> Evidence:
    """An evaluation knows one model, and of the retain model what the metrics needed."""
    metrics = summary.metrics
    kept = {kind.label: Kept(None, metrics[kind.metric]) for kind in KEPT if metrics.get(kind.metric) is not None}
    return Evidence(
        None,
        metrics.get(FORGET.metric),
        forget_retain_model,
        metrics.get("forget_quality"),
        *recited(examples),
        kept=kept,
    )


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


def demo_evidence(material: Material, row: Row) -> Evidence:
    """Of one run in the demonstration's table."""
    summary, run = material.summary, material.runs.get(row["name"])
    evidence = evidence_beside(summary["target"], summary["retain_model"], row)
    examples = Examples.model_validate(run.examples) if run and run.examples else None
    said, by_retain, asked = recited(examples)
    return replace(evidence, forget_recited=said, forget_recited_by_retain_model=by_retain, forget_asked=asked)


def evidence_beside(target: Row, retain: Row, row: Row) -> Evidence:
    """Of a row of results, beside those of the target and of the retain model."""
    kept = {}
    for kind in KEPT:
        key = kind.probability
        if row.get(key) is not None:
            kept[kind.label] = Kept(target.get(key), row[key], retain.get(key), None, row.get(kind.rmf))
    return Evidence(
        target.get("forget_prob"),
        row.get("forget_prob"),
        retain.get("forget_prob"),
        row.get("forget_quality"),
        kept=kept,
    )


def compare_evidence(summary: Row, row: Row) -> Evidence:
    """Means over the seeds of a method at its chosen learning rate; of forget quality, a p-value, the median."""
    key = ("objective", "rectification", "learning_rate")
    cells = [cell for cell in summary["cells"] if all(cell[k] == row[k] for k in key) and cell["status"] == "done"]
    qualities = [cell["forget_quality"] for cell in cells if cell.get("forget_quality") is not None]
    names = ("forget_prob", *(kind.probability for kind in KEPT), *(kind.rmf for kind in KEPT))
    means = {name: row[name]["mean"] if row.get(name) else None for name in names}
    means["forget_quality"] = median(qualities) if qualities else None
    return evidence_beside(summary["target"], summary["retain_model"], means)
