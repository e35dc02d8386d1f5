"""What stands on a report's page: one function for each kind of folder."""

from collections.abc import Callable

from rich.table import Table

from gru_unlearn.comparison import pareto
from gru_unlearn.comparison.comparison_tables import comparison_report
from gru_unlearn.publishing.evidence import compare_evidence, demo_evidence, evaluation_evidence, run_evidence
from gru_unlearn.publishing.material import Material, Row
from gru_unlearn.publishing.sections import (
    along,
    attack_sections,
    better_way,
    every_run,
    layers,
    meaning,
    meanings,
    record,
    run_metrics,
    tradeoff,
)
from gru_unlearn.reporting.chart import whole
from gru_unlearn.reporting.example_table import example_table
from gru_unlearn.reporting.parts import Figure, Page, Section, TableData, from_rich
from gru_unlearn.reporting.tables import by_reason, demo_report, shown
from gru_unlearn.reporting.verdict import judge, judge_staying


def run_page(material: Material) -> Page:
    """An unlearning run."""
    summary = material.summary
    results = summary["results"]
    title = f"{results['objective']} · {results['rectification']}"
    one = {title: material}
    sections = [tradeoff(one), along(one), layers(one), run_metrics(material), *attack_sections(material.attack)]
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
        findings=judge(run_evidence(material), (material.attack or {}).get("attacks")),
        sections=[section for section in sections if section],
        examples=example_table({"after": material.examples} if material.examples else {}),
        record=record(material),
    )


def _kept_model(summary: Row) -> str:
    best = summary.get("best")
    return f"the best one, of step {best['step']}" if best else "the last one"


def attack_page(material: Material) -> Page:
    """An attack folder."""
    summary = material.summary
    facts = {"model": str((summary.get("model") or {}).get("source", "")), "seed": str(summary.get("seed", ""))}
    return Page(
        title="Attacks on an unlearned model",
        facts={name: value for name, value in facts.items() if value},
        findings=[judge_staying(summary["attacks"])],
        sections=attack_sections(summary),
        record=record(material),
    )


def demo_page(material: Material) -> Page:
    """Several runs on the built-in benchmark."""
    summary = material.summary
    table, how_to_read, *_ = demo_report(summary)
    runs = material.runs
    sections = [
        Section("results", "The runs side by side", tables=[from_rich(table, title="")], notes=[how_to_read.strip()]),
        tradeoff(runs) if runs else None,
        along(runs) if runs else None,
        layers(runs) if runs else None,
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


PAGES: dict[str, Callable[[Material], Page]] = {
    "unlearn": run_page,
    "demo": demo_page,
    "compare": compare_page,
    "evaluate": evaluation_page,
    "attack": attack_page,
}
"""Command that wrote a folder's summary → its page."""


def make_page(material: Material) -> Page:
    """The page for a folder's kind.

    Raises:
        KeyError: the summary is of no kind that has a report, or lacks what its kind needs.
    """
    return PAGES[material.summary["command"]](material)
