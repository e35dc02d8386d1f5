"""What a verdict judges of methods side by side."""

from dataclasses import replace
from statistics import median

from gru_unlearn.publishing.evidence import recited
from gru_unlearn.publishing.material import Material
from gru_unlearn.reporting.verdict import Evidence, Kept
from gru_unlearn.results.comparison_summary import ComparisonSummary, DemoRow, DemoSummary, MethodResult
from gru_unlearn.results.model_metrics import Metrics
from gru_unlearn.results.row_kinds import KEPT


def demo_evidence(summary: DemoSummary, row: DemoRow, run: Material | None) -> Evidence:
    """Of one run in the demonstration's table, and of what it kept of single rows."""
    said, by_retain, asked = recited(run.examples if run else None)
    evidence = _beside(summary, row)
    return replace(evidence, forget_recited=said, forget_recited_by_retain_model=by_retain, forget_asked=asked)


def compare_evidence(summary: ComparisonSummary, row: MethodResult) -> Evidence:
    """Means over the seeds of a method at its chosen learning rate; of forget quality, a p-value, the median."""
    names = ["forget_prob"]
    for kind in KEPT:
        names += [kind.probability, kind.rmf]
    measured = {name: row.mean(name) for name in names}
    found = [cell.get("forget_quality") for cell in summary.cells_of(row)]
    qualities = [quality for quality in found if quality is not None]
    measured["forget_quality"] = median(qualities) if qualities else None
    return _beside(summary, Metrics.model_validate(measured))


def _beside(summary: DemoSummary | ComparisonSummary, row: Metrics) -> Evidence:
    """Of a row of results, beside those of the target and of the retain model."""
    target, retain_model = summary.target, summary.retain_model
    kept = {}
    for kind in KEPT:
        after = row.probability(kind)
        if after is not None:
            before, by_retain = target.probability(kind), retain_model.probability(kind)
            kept[kind.label] = Kept(before, after, by_retain, None, row.get(kind.rmf))
    return Evidence(target.forget_prob, row.forget_prob, retain_model.forget_prob, row.get("forget_quality"), kept=kept)
