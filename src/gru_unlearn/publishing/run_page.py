"""The page of an unlearning run."""

from gru_unlearn.publishing.attack_page import attack_sections
from gru_unlearn.publishing.evidence import run_evidence
from gru_unlearn.publishing.material import Material
from gru_unlearn.publishing.record_sections import record
from gru_unlearn.publishing.run_sections import along, layers, run_metrics, tradeoff
from gru_unlearn.reporting.example_table import example_table
from gru_unlearn.reporting.parts import Page
from gru_unlearn.reporting.verdict import judge
from gru_unlearn.results.attack_summary import AttackSummary
from gru_unlearn.results.row_examples import Examples
from gru_unlearn.results.run_summary import RunSummary


def run_page(material: Material) -> Page:
    """An unlearning run."""
    summary = RunSummary.model_validate(material.summary)
    examples = Examples.model_validate(material.examples) if material.examples else None
    attack = AttackSummary.model_validate(material.attack) if material.attack else None
    title = f"{summary.results.objective} · {summary.results.rectification}"
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
            "steps": str(summary.steps),
            "time": f"{summary.seconds:.0f} s",
            "seed": str(summary.seed),
            "model": summary.model.source or "",
            "kept model": f"the best one, of step {summary.best.step}" if summary.best else "the last one",
        },
        findings=judge(run_evidence(summary, examples), attack.attacks if attack else None),
        sections=[section for section in sections if section],
        examples=example_table({"after": material.examples} if material.examples else {}),
        record=record(material),
    )
