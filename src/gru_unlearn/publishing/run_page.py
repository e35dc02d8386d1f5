"""The page of an unlearning run."""

from gru_unlearn.publishing.attack_page import attack_sections
from gru_unlearn.publishing.evidence import run_evidence
from gru_unlearn.publishing.material import Material, Row
from gru_unlearn.publishing.record_sections import record
from gru_unlearn.publishing.run_sections import along, layers, run_metrics, tradeoff
from gru_unlearn.reporting.example_table import example_table
from gru_unlearn.reporting.parts import Page
from gru_unlearn.reporting.verdict import judge
from gru_unlearn.results.attack_summary import AttackSummary


def run_page(material: Material) -> Page:
    """An unlearning run."""
    summary = material.summary
    results = summary["results"]
    title = f"{results['objective']} · {results['rectification']}"
    one = {title: material}
    attack = AttackSummary.model_validate(material.attack) if material.attack else None
    sections = [tradeoff(one), along(one), layers(one), run_metrics(material), *attack_sections(attack)]
    return Page(
        title=f"Unlearning run: {title}",
        facts={
            "objective": results["objective"],
            "rectification": results["rectification"],
            "steps": str(summary["steps"]),
            "time": f"{summary['seconds']:.0f} s",
            "seed": str(summary["seed"]),
            "model": summary["model"]["source"],
            "kept model": _kept_model(summary),
        },
        findings=judge(run_evidence(material), attack.attacks if attack else None),
        sections=[section for section in sections if section],
        examples=example_table({"after": material.examples} if material.examples else {}),
        record=record(material),
    )


def _kept_model(summary: Row) -> str:
    best = summary.get("best")
    return f"the best one, of step {best['step']}" if best else "the last one"
