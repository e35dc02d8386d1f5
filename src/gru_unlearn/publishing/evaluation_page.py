"""The page of an evaluation."""

from collections.abc import Mapping

from gru_unlearn.publishing.evidence import evaluation_evidence
from gru_unlearn.publishing.material import Material, Row
from gru_unlearn.publishing.record_sections import better_way, meaning, record
from gru_unlearn.reporting.example_table import example_table
from gru_unlearn.reporting.parts import Page, Section, TableData
from gru_unlearn.reporting.tables import by_reason, shown
from gru_unlearn.reporting.verdict import judge
from gru_unlearn.results.evaluation_summary import EvaluationSummary
from gru_unlearn.results.row_examples import Examples


def evaluation_page(material: Material) -> Page:
    """One model on a suite."""
    summary = EvaluationSummary.model_validate(material.summary)
    examples = Examples.model_validate(material.examples) if material.examples else None
    evidence = evaluation_evidence(summary, material.forget_retain_model, examples)
    sections = [Section("metrics", "Every number, and what it means", tables=[_evaluated(summary, material.metrics)])]
    reasons = by_reason({**summary.missing, **summary.notes}.items())
    if reasons:
        table = TableData(["metric", "why"], [[names, reason] for reason, names in reasons.items()], keys=2)
        intro = "Numbers without a value, or with a remark, and why."
        sections.append(Section("missing", "What is missing", intro, tables=[table]))
    return Page(
        title=f"Evaluation on {summary.suite}",
        facts={"model": summary.model.source or "", "suite": summary.suite, "time": f"{summary.seconds:.0f} s"},
        findings=judge(evidence)[:2] if evidence.forget_after is not None else [],
        sections=sections,
        examples=example_table({"this model": material.examples} if material.examples else {}),
        record=record(material),
    )


def _evaluated(summary: EvaluationSummary, metrics: Mapping[str, Row]) -> TableData:
    """Every metric that has a value."""
    rows = []
    for key, value in summary.metrics.items():
        if value is not None:
            interval = "–".join(map(shown, summary.intervals.get(key, ())))
            rows.append([*meaning(key, metrics), shown(value), interval, better_way(key, metrics)])
    return TableData(["metric", "value", "95 % interval", "better"], rows)
