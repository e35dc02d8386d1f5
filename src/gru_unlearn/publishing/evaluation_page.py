"""The page of an evaluation."""

from gru_unlearn.publishing.evidence import evaluation_evidence
from gru_unlearn.publishing.material import Material
from gru_unlearn.publishing.record_sections import better_way, meaning, record
from gru_unlearn.reporting.example_table import example_table
from gru_unlearn.reporting.parts import Page, Section, TableData
from gru_unlearn.reporting.tables import by_reason, shown
from gru_unlearn.reporting.verdict import judge


def evaluation_page(material: Material) -> Page:
    """One model on a suite."""
    summary, evidence = material.summary, evaluation_evidence(material)
    gone = by_reason({**summary["missing"], **summary["notes"]}.items())
    table = TableData(["metric", "why"], [[keys, reason] for reason, keys in gone.items()], keys=2)
    intro = "Numbers without a value, or with a remark, and why."
    return Page(
        title=f"Evaluation on {summary['suite']}",
        facts={"model": summary["model"]["source"], "suite": summary["suite"], "time": f"{summary['seconds']:.0f} s"},
        findings=judge(evidence)[:2] if evidence.forget_after is not None else [],
        sections=[
            Section("metrics", "Every number, and what it means", tables=[_evaluated(material)]),
            *([Section("missing", "What is missing", intro, tables=[table])] if gone else []),
        ],
        examples=example_table({"this model": material.examples} if material.examples else {}),
        record=record(material),
    )


def _evaluated(material: Material) -> TableData:
    """Every metric that has a value."""
    summary = material.summary
    rows = [
        [
            *meaning(key, material.metrics),
            shown(value),
            "–".join(map(shown, summary["intervals"][key])) if key in summary["intervals"] else "",
            better_way(key, material.metrics),
        ]
        for key, value in summary["metrics"].items()
        if value is not None
    ]
    return TableData(["metric", "value", "95 % interval", "better"], rows)
