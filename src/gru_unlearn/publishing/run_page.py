"""The page of an unlearning run."""

from gru_unlearn.common.places import BUILTIN
from gru_unlearn.publishing.attack_page import attack_sections
from gru_unlearn.publishing.brief_pages import brief_of
from gru_unlearn.publishing.material import Material
from gru_unlearn.publishing.record_sections import record
from gru_unlearn.publishing.run_sections import along, layers, own_rate, run_metrics, tradeoff
from gru_unlearn.reporting.example_table import example_table
from gru_unlearn.reporting.judge import findings_of, verdict_of
from gru_unlearn.reporting.measured import rows_of, run_evidence
from gru_unlearn.reporting.parts import Page
from gru_unlearn.reporting.tables import plural
from gru_unlearn.results.run_summary import RunRecord, RunSummary


def run_page(summary: RunSummary, material: Material) -> Page:
    """An unlearning run."""
    examples = material.examples
    evidence = run_evidence(summary, examples)
    verdict = verdict_of(evidence, *material.tried)
    title = summary.results.method
    one = {title: summary}
    sections = [
        tradeoff(one, examples),
        along(one),
        own_rate(summary),
        layers(one),
        run_metrics(summary, material.metrics),
        *attack_sections(material.attack),
    ]
    return Page(
        title=title_of(summary),
        facts={
            "objective": summary.results.objective,
            "rectification": summary.results.rectification,
            "robustness": summary.results.robust or "none",
            "steps": str(summary.steps),
            "time": f"{summary.seconds:.0f} s",
            "seed": str(summary.seed),
            "model": summary.model.source or "",
            "kept model": f"the best one, of step {summary.best.step}" if summary.best else "the last one",
            **_end(summary),
        },
        verdict=verdict,
        findings=findings_of(evidence, *material.tried),
        brief=brief_of(summary, material, evidence, verdict),
        sections=[section for section in sections if section],
        examples=example_table({"after": examples if material.options.rows else None}),
        invented=_are_invented(summary),
        record=record(material),
    )


def _end(summary: RunSummary) -> dict[str, str]:
    """Why it stopped, where that is known."""
    stopped = summary.results.stopped
    return {} if stopped is None else {"stopped": stopped.sentence}


def _are_invented(summary: RunRecord) -> bool:
    """Whether all rows are about the people of the built-in benchmark."""
    sources = [rows.source or "" for rows in summary.data.values()]
    return bool(sources) and all(source.startswith(BUILTIN) for source in sources)


def title_of(summary: RunRecord) -> str:
    """What it was for, not how."""
    rows = rows_of(summary.data)
    return "Removal of rows from a model" if rows is None else f"Removal of {plural(rows, 'row')} from a model"
