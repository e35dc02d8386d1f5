"""The page of an unlearning run."""

from gru_unlearn.publishing.attack_page import attack_sections
from gru_unlearn.publishing.evidence import run_evidence
from gru_unlearn.publishing.material import Material
from gru_unlearn.publishing.record_sections import record
from gru_unlearn.publishing.run_sections import along, layers, run_metrics, tradeoff
from gru_unlearn.reporting.example_table import example_table
from gru_unlearn.reporting.parts import Page
from gru_unlearn.reporting.verdict import judge
from gru_unlearn.results.run_summary import RunSummary


def run_page(summary: RunSummary, material: Material) -> Page:
    """An unlearning run."""
    examples, attack = material.examples, material.attack
    title = summary.results.method
    one = {title: summary}
    sections = [
        tradeoff(one, examples),
        along(one),
        layers(one),
        run_metrics(summary, material.metrics),
        *attack_sections(attack),
    ]
    return Page(
        title=f"Unlearning run: {title}",
        facts={
            "objective": summary.results.objective,
            "rectification": summary.results.rectification,
            "robustness": summary.results.robust or "none",
            "steps": str(summary.steps),
            "time": f"{summary.seconds:.0f} s",
            "seed": str(summary.seed),
            "model": summary.model.source or "",
            "kept model": f"the best one, of step {summary.best.step}" if summary.best else "the last one",
        },
        findings=judge(run_evidence(summary, examples), attack.attacks if attack else None),
        sections=[section for section in sections if section],
        examples=example_table({"after": examples}),
        record=record(material),
    )
