"""The pages of a comparison and of the demonstration, and what their verdicts judge."""

from dataclasses import replace

from gru_unlearn.comparison import frontier_picture, pareto
from gru_unlearn.comparison.comparison_tables import comparison_tables, reading
from gru_unlearn.comparison.demo_tables import HOW_TO_READ, demo_table
from gru_unlearn.comparison.kept_most import which_kept_most, who_kept_most
from gru_unlearn.comparison.method_columns import short
from gru_unlearn.comparison.method_verdicts import compare_verdicts, demo_verdicts
from gru_unlearn.publishing.material import Material
from gru_unlearn.publishing.record_sections import meanings, record
from gru_unlearn.publishing.run_sections import along, layers, tradeoff
from gru_unlearn.reporting.chart import whole
from gru_unlearn.reporting.example_table import example_table
from gru_unlearn.reporting.judge import together
from gru_unlearn.reporting.parts import Figure, Page, Section, TableData, from_rich
from gru_unlearn.reporting.tables import shown
from gru_unlearn.results.comparison_summary import CellResult, ComparisonSummary, DemoSummary
from gru_unlearn.results.row_kinds import ROW_KINDS


def demo_page(summary: DemoSummary, material: Material) -> Page:
    """Several runs on the built-in benchmark."""
    runs = {name: run.summary for name, run in material.runs.items()}
    examples = {name: run.examples for name, run in material.runs.items()}
    seen = next(iter(examples.values()), None)
    verdicts = demo_verdicts(summary)
    table = replace(from_rich(demo_table(summary)), title="")
    sections = [Section("results", "The runs side by side", tables=[table], notes=[HOW_TO_READ.strip()])]
    sections += [section for section in (tradeoff(runs, seen), along(runs), layers(runs)) if section]
    return Page(
        title="Demonstration: forgetting five of fifty invented people",
        facts={"seed": str(summary.seed), "time": f"{summary.seconds:.0f} s"},
        verdict=together(verdicts),
        told=who_kept_most(summary),
        judged=verdicts,
        invented=True,
        sections=[*sections, meanings(summary.target, material.metrics)],
        examples=example_table(examples) if material.options.rows else None,
        record=record(material),
    )


def compare_page(summary: ComparisonSummary, material: Material) -> Page:
    """Objectives × rectifications × learning rates × seeds."""
    chosen, verdicts = summary.chosen, compare_verdicts(summary)
    return Page(
        title="Comparison of unlearning methods",
        facts={
            "objectives": ", ".join(summary.objectives),
            "methods": str(len(chosen)),
            "runs": str(len(summary.cells)),
            "seeds": str(len({cell.seed for cell in summary.cells})),
            "time": "" if summary.seconds is None else f"{summary.seconds:.0f} s",
        },
        verdict=together(verdicts),
        told=which_kept_most(summary),
        judged=verdicts,
        sections=[
            _pictures(summary),
            *_costs(summary),
            _results(summary),
            every_run(summary),
            meanings(summary.target, material.metrics),
        ],
        record=record(material),
    )


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
    tables = [from_rich(table) for table in comparison_tables(summary)]
    return Section("results", "The methods side by side", tables=tables, notes=reading(summary))


def every_run(summary: ComparisonSummary) -> Section:
    """The runs of a comparison one by one."""
    headings = ["run", "lr", "seed", "steps", "forget", "retain", "held-out", "RMF", "RMF held-out"]
    table = TableData(headings, [_line(cell) for cell in summary.cells])
    return Section("runs", "Every run", tables=[table], folded=True)


def _line(cell: CellResult) -> list[str]:
    steps = str(cell.steps) if cell.done else "failed"
    numbers = [*map(cell.probability, ROW_KINDS), cell.rmf, cell.rmf_held_out]
    return [cell.name, short(cell.learning_rate), str(cell.seed), steps, *map(shown, numbers)]
