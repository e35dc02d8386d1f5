"""The pages of a comparison and of the demonstration, and what their verdicts judge."""

from dataclasses import replace
from statistics import median

from rich.table import Table

from gru_unlearn.comparison import frontier_picture, pareto
from gru_unlearn.comparison.comparison_tables import comparison_report
from gru_unlearn.comparison.demo_tables import HOW_TO_READ, demo_table
from gru_unlearn.comparison.method_columns import short
from gru_unlearn.publishing.evidence import recited
from gru_unlearn.publishing.material import Material
from gru_unlearn.publishing.record_sections import meanings, record
from gru_unlearn.publishing.run_sections import along, layers, tradeoff
from gru_unlearn.reporting.chart import whole
from gru_unlearn.reporting.example_table import example_table
from gru_unlearn.reporting.parts import Figure, Page, Section, TableData, from_rich
from gru_unlearn.reporting.tables import shown
from gru_unlearn.reporting.verdict import Evidence, Kept, judge
from gru_unlearn.results.comparison_summary import CellResult, ComparisonSummary, DemoRow, DemoSummary, MethodResult
from gru_unlearn.results.model_metrics import Metrics
from gru_unlearn.results.row_examples import Examples
from gru_unlearn.results.row_kinds import KEPT, ROW_KINDS


def demo_page(summary: DemoSummary, material: Material) -> Page:
    """Several runs on the built-in benchmark."""
    runs = {name: run.summary for name, run in material.runs.items()}
    examples = {name: run.examples for name, run in material.runs.items()}
    seen = next(iter(examples.values()), None)
    table = replace(from_rich(demo_table(summary)), title="")
    sections = [Section("results", "The runs side by side", tables=[table], notes=[HOW_TO_READ.strip()])]
    sections += [section for section in (tradeoff(runs, seen), along(runs), layers(runs)) if section]
    return Page(
        title="Demonstration: forgetting five of fifty invented people",
        facts={"seed": str(summary.seed), "time": f"{summary.seconds:.0f} s"},
        judged={row.name: judge(demo_evidence(summary, row, examples.get(row.name)))[:2] for row in summary.results},
        sections=[*sections, meanings(summary.target, material.metrics)],
        examples=example_table(examples),
        record=record(material),
    )


def compare_page(summary: ComparisonSummary, material: Material) -> Page:
    """Objectives × rectifications × learning rates × seeds."""
    chosen = summary.chosen
    return Page(
        title="Comparison of unlearning methods",
        facts={
            "objectives": ", ".join(summary.objectives),
            "methods": str(len(chosen)),
            "runs": str(len(summary.cells)),
            "seeds": str(len({cell.seed for cell in summary.cells})),
            "time": "" if summary.seconds is None else f"{summary.seconds:.0f} s",
        },
        judged={_method(row): judge(compare_evidence(summary, row))[:2] for row in chosen},
        sections=[
            _pictures(summary),
            *_costs(summary),
            _results(summary),
            every_run(summary),
            meanings(summary.target, material.metrics),
        ],
        record=record(material),
    )


def _method(row: MethodResult) -> str:
    """What is judged by the seeds that ended well; the others must not go unsaid."""
    failed = f" ({row.failed} of {row.runs} runs failed)" if row.failed else ""
    return f"{row.objective} · {row.rectification}{failed}"


def _pictures(summary: ComparisonSummary) -> Section:
    figures = []
    for objective, inside in pareto.panels(summary).items():
        svg = whole(inside, *pareto.PANEL, f"{objective}: forgetting against retention")
        figures.append(Figure(svg))
    looks = {name: look for look, name in enumerate(summary.rectifications)}
    return Section("trade-off", "Forgetting against keeping", pareto.READING, figures, looks)


def _costs(summary: ComparisonSummary) -> list[Section]:
    """What it takes to get to f* against what is kept there, where a method gets there."""
    frontier, figures = summary.frontier, []
    if frontier is None:
        return []
    for objective, inside in frontier_picture.frontier_panels(summary, frontier).items():
        figures.append(Figure(whole(inside, *frontier_picture.PANEL, f"{objective}: retention against cost")))
    looks = {name: look for look, name in enumerate(summary.rectifications)}
    return [Section("frontier", "What it takes, and what it keeps", frontier_picture.READING, figures, looks)]


def _results(summary: ComparisonSummary) -> Section:
    parts = comparison_report(summary)
    tables = [from_rich(part) for part in parts if isinstance(part, Table)]
    notes = [part for part in parts if isinstance(part, str)]
    return Section("results", "The methods side by side", tables=tables, notes=notes)


def every_run(summary: ComparisonSummary) -> Section:
    """The runs of a comparison one by one."""
    headings = ["run", "lr", "seed", "steps", "forget", "retain", "held-out", "RMF", "RMF held-out"]
    table = TableData(headings, [_line(cell) for cell in summary.cells])
    return Section("runs", "Every run", tables=[table], folded=True)


def _line(cell: CellResult) -> list[str]:
    steps = str(cell.steps) if cell.done else "failed"
    numbers = [*map(cell.probability, ROW_KINDS), cell.rmf, cell.rmf_held_out]
    return [cell.name, short(cell.learning_rate), str(cell.seed), steps, *map(shown, numbers)]


# --- what is judged --------------------------------------------------------------------------------------------------


def demo_evidence(summary: DemoSummary, row: DemoRow, examples: Examples | None) -> Evidence:
    """Of one run in the demonstration's table, and of what it kept of single rows."""
    said, by_retain, asked = recited(examples)
    evidence = _beside(summary, row)
    return replace(evidence, forget_recited=said, forget_recited_by_retain_model=by_retain, forget_asked=asked)


def compare_evidence(summary: ComparisonSummary, row: MethodResult) -> Evidence:
    """Means over the seeds of a method at its chosen learning rate; of forget quality, a p-value, the median."""
    names = ("forget_prob", "retain_prob", "held_out_prob", "rmf", "rmf_held_out")
    measured = {name: row.mean(name) for name in names}
    found = [cell.get("forget_quality") for cell in summary.cells_of(row)]
    qualities = [quality for quality in found if quality is not None]
    if qualities:
        measured["forget_quality"] = median(qualities)
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
    quality = row.get("forget_quality")
    return Evidence(target.forget_prob, row.forget_prob, retain_model.forget_prob, quality, kept=kept)
