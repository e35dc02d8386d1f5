"""The pages of a comparison and of the demonstration."""

from rich.table import Table

from gru_unlearn.comparison import pareto
from gru_unlearn.comparison.comparison_tables import comparison_report, short
from gru_unlearn.publishing.evidence import (
    compare_evidence,
    demo_evidence,
)
from gru_unlearn.publishing.material import Material, Row
from gru_unlearn.publishing.record_sections import meanings, record
from gru_unlearn.publishing.run_sections import along, layers, tradeoff
from gru_unlearn.reporting.chart import whole
from gru_unlearn.reporting.example_table import example_table
from gru_unlearn.reporting.parts import Figure, Page, Section, TableData, from_rich
from gru_unlearn.reporting.tables import demo_report, shown
from gru_unlearn.reporting.verdict import judge
from gru_unlearn.results.row_examples import Examples
from gru_unlearn.results.run_summary import RunSummary


def demo_page(material: Material) -> Page:
    """Several runs on the built-in benchmark."""
    summary = material.summary
    table, how_to_read, *_ = demo_report(summary)
    runs = material.runs
    summaries = {name: RunSummary.model_validate(run.summary) for name, run in runs.items()}
    first = next(iter(runs.values()), None)
    seen = Examples.model_validate(first.examples) if first and first.examples else None
    sections = [
        Section("results", "The runs side by side", tables=[from_rich(table, title="")], notes=[how_to_read.strip()]),
        tradeoff(summaries, seen),
        along(summaries),
        layers(summaries),
        meanings(material),
    ]
    examples = {name: run.examples for name, run in runs.items() if run.examples}
    return Page(
        title="Demonstration: forgetting five of fifty invented people",
        facts={"seed": str(summary["seed"]), "time": f"{summary['seconds']:.0f} s"},
        judged={row["name"]: judge(demo_evidence(material, row))[:2] for row in summary["results"]},
        sections=[section for section in sections if section],
        examples=example_table(examples),
        record=record(material),
    )


def compare_page(material: Material) -> Page:
    """Objectives × rectifications × learning rates × seeds."""
    summary = material.summary
    chosen = [row for row in summary["aggregates"] if row["chosen"]]
    parts = comparison_report(dict(summary))
    figures = [
        Figure(whole(inside, pareto.WIDTH, pareto.HEIGHT, f"{objective}: forgetting against retention"))
        for objective, inside in pareto.panels(summary).items()
    ]
    methods = {name: number for number, name in enumerate(pareto.methods_of(summary))}
    return Page(
        title="Comparison of unlearning methods",
        facts={
            "objectives": ", ".join(dict.fromkeys(row["objective"] for row in chosen)),
            "methods": str(len(chosen)),
            "runs": str(len(summary["cells"])),
            "seeds": str(len({cell["seed"] for cell in summary["cells"]})),
            "time": f"{summary['seconds']:.0f} s" if "seconds" in summary else "",
        },
        judged={_method(row): judge(compare_evidence(summary, row))[:2] for row in chosen},
        sections=[
            Section("trade-off", "Forgetting against keeping", pareto.READING, figures, methods),
            Section(
                "results",
                "The methods side by side",
                tables=[from_rich(part) for part in parts if isinstance(part, Table)],
                notes=[part for part in parts if isinstance(part, str)],
            ),
            every_run(summary),
            meanings(material),
        ],
        record=record(material),
    )


def _method(row: Row) -> str:
    """What is judged by the seeds that ended well; the others must not go unsaid."""
    failed = f" ({row['failed']} of {row['runs']} runs failed)" if row["failed"] else ""
    return f"{row['objective']} · {row['rectification']}{failed}"


def every_run(summary: Row) -> Section:
    """The runs of a comparison one by one."""
    rows = [
        [
            cell["name"],
            short(cell["learning_rate"]),
            str(cell["seed"]),
            "failed" if cell["status"] == "failed" else str(cell["steps"]),
            *(shown(cell.get(key)) for key in ("forget_prob", "retain_prob", "held_out_prob", "rmf", "rmf_held_out")),
        ]
        for cell in summary["cells"]
    ]
    headings = ["run", "lr", "seed", "steps", "forget", "retain", "held-out", "RMF", "RMF held-out"]
    return Section("runs", "Every run", tables=[TableData(headings, rows)], folded=True)
