"""The pages of a comparison and of the demonstration."""

from rich.table import Table

from gru_unlearn.comparison import pareto
from gru_unlearn.comparison.comparison_tables import comparison_report, short
from gru_unlearn.comparison.demo_tables import HOW_TO_READ, demo_table
from gru_unlearn.publishing.comparison_evidence import compare_evidence, demo_evidence
from gru_unlearn.publishing.material import Material
from gru_unlearn.publishing.record_sections import meanings, record
from gru_unlearn.publishing.run_sections import along, layers, tradeoff
from gru_unlearn.reporting.chart import whole
from gru_unlearn.reporting.example_table import example_table
from gru_unlearn.reporting.parts import Figure, Page, Section, TableData, from_rich
from gru_unlearn.reporting.tables import shown
from gru_unlearn.reporting.verdict import judge
from gru_unlearn.results.comparison_summary import CellResult, ComparisonSummary, DemoSummary, MethodResult
from gru_unlearn.results.row_kinds import ROW_KINDS


def demo_page(material: Material) -> Page:
    """Several runs on the built-in benchmark."""
    summary = DemoSummary.model_validate(material.summary)
    runs = material.runs
    table = from_rich(demo_table(summary), title="")
    sections = [Section("results", "The runs side by side", tables=[table], notes=[HOW_TO_READ.strip()])]
    if runs:
        sections += [section for section in (tradeoff(runs), along(runs), layers(runs)) if section]
    return Page(
        title="Demonstration: forgetting five of fifty invented people",
        facts={"seed": str(summary.seed), "time": f"{summary.seconds:.0f} s"},
        judged={row.name: judge(demo_evidence(summary, row, runs.get(row.name)))[:2] for row in summary.results},
        sections=[*sections, meanings(material)],
        examples=example_table({name: run.examples for name, run in runs.items() if run.examples}),
        record=record(material),
    )


def compare_page(material: Material) -> Page:
    """Objectives × rectifications × learning rates × seeds."""
    summary = ComparisonSummary.model_validate(material.summary)
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
        sections=[_pictures(summary), _results(summary), every_run(summary), meanings(material)],
        record=record(material),
    )


def _method(row: MethodResult) -> str:
    """What is judged by the seeds that ended well; the others must not go unsaid."""
    failed = f" ({row.failed} of {row.runs} runs failed)" if row.failed else ""
    return f"{row.objective} · {row.rectification}{failed}"


def _pictures(summary: ComparisonSummary) -> Section:
    figures = []
    for objective, inside in pareto.panels(summary).items():
        svg = whole(inside, pareto.WIDTH, pareto.HEIGHT, f"{objective}: forgetting against retention")
        figures.append(Figure(svg))
    looks = {name: look for look, name in enumerate(summary.rectifications)}
    return Section("trade-off", "Forgetting against keeping", pareto.READING, figures, looks)


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
    numbers = [cell.probability(kind) for kind in ROW_KINDS] + [cell.rmf, cell.rmf_held_out]
    return [cell.name, short(cell.learning_rate), str(cell.seed), steps, *map(shown, numbers)]
