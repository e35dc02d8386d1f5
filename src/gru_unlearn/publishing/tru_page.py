"""The page of a run of rectified task vectors."""

from dataclasses import replace

from gru_unlearn.publishing.brief_pages import brief_of
from gru_unlearn.publishing.material import Material
from gru_unlearn.publishing.record_sections import record
from gru_unlearn.publishing.run_page import title_of
from gru_unlearn.reporting.chart import WHOLE, Line, Spot, chart
from gru_unlearn.reporting.example_table import example_table
from gru_unlearn.reporting.judge import findings_of, verdict_of
from gru_unlearn.reporting.measured import run_evidence
from gru_unlearn.reporting.parts import Figure, Page, Section, from_rich
from gru_unlearn.results.row_kinds import ROW_KINDS, RowKind
from gru_unlearn.results.run_summary import TruSummary
from gru_unlearn.runs.run_tables import tru_table

_LOOKS = {"tru": 2, "negated": 1}
"""Way of making the task vector → how its line is drawn."""


def tru_page(summary: TruSummary, material: Material) -> Page:
    """Unlearning without retain rows."""
    examples = material.examples
    evidence = run_evidence(summary, examples)
    verdict = verdict_of(evidence, *material.tried)
    return Page(
        title=title_of(summary),
        facts={"method": "TRU", "groups": str(len(summary.groups)), "seed": str(summary.seed)},
        verdict=verdict,
        findings=findings_of(evidence, *material.tried),
        brief=brief_of(summary, material, evidence, verdict),
        sections=[_by_alpha(summary)],
        examples=example_table({"after": examples if material.options.rows else None}),
        record=record(material),
    )


def _by_alpha(summary: TruSummary) -> Section:
    kinds = [kind for kind in ROW_KINDS if summary.results.tru.has(kind.probability)]
    return Section(
        "trade-off",
        "Forgetting against keeping",
        "The larger α, the more of the task vector is subtracted. Each mark is one α that was tried.",
        [_figure(kind, summary) for kind in kinds],
        _LOOKS,
        [replace(from_rich(tru_table(summary)), title="")],
    )


def _figure(kind: RowKind, summary: TruSummary) -> Figure:
    lines = []
    for way, points in summary.trajectory.items():
        values = [(point.alpha, point.probability(kind)) for point in points]
        spots = [Spot(alpha, value, f"{way}, α {alpha:g}: {value:.3f}") for alpha, value in values if value is not None]
        if spots:
            lines.append(Line(way, spots, _LOOKS[way]))
    title = f"{kind.label.capitalize()} rows"
    return Figure(chart(title, lines, x_label="α", y_label="mean answer probability", y_holds=WHOLE))
