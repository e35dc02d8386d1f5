"""The page of an evaluation."""

from gru_unlearn.benchmark.evaluated_evidence import evaluation_evidence
from gru_unlearn.publishing.material import Explained, Material
from gru_unlearn.publishing.record_sections import better_way, meaning, record
from gru_unlearn.reporting.example_table import example_table
from gru_unlearn.reporting.judge import findings_of, verdict_of
from gru_unlearn.reporting.parts import Page, Section, TableData
from gru_unlearn.reporting.tables import by_reason, shown
from gru_unlearn.results.evaluation_summary import EvaluationSummary


def evaluation_page(summary: EvaluationSummary, material: Material) -> Page:
    """One model on a suite."""
    evidence, verdict, findings = evaluation_evidence(summary, material.tables), None, []
    if evidence.forget_after is not None:
        verdict, findings = verdict_of(evidence), findings_of(evidence)[:2]
    sections = [Section("metrics", "Every number, and what it means", tables=[_evaluated(summary, material.metrics)])]
    reasons = by_reason({**summary.missing, **summary.notes}.items())
    if reasons:
        table = TableData(["metric", "why"], [[names, reason] for reason, names in reasons.items()], keys=2)
        intro = "Numbers without a value, or with a remark, and why."
        sections.append(Section("missing", "What is missing", intro, tables=[table]))
    return Page(
        title=f"Evaluation on {summary.suite}",
        facts={"model": summary.model.source or "", "suite": summary.suite, "time": f"{summary.seconds:.0f} s"},
        verdict=verdict,
        findings=findings,
        sections=sections,
        examples=example_table({"this model": material.examples if material.options.rows else None}),
        invented=summary.suite == "builtin" and not summary.settings.get("data"),
        record=record(material),
    )


def _evaluated(summary: EvaluationSummary, metrics: Explained) -> TableData:
    rows = []
    for key, value in summary.metrics.items():
        if value is not None:
            interval = "–".join(map(shown, summary.intervals.get(key, ())))
            rows.append([*meaning(key, metrics), shown(value), interval, better_way(key, metrics)])
    return TableData(["metric", "value", "95 % interval", "better"], rows)
