"""From summaries to the numbers that a verdict judges."""

from dataclasses import replace
from statistics import fmean, median

from gru_unlearn.publishing.material import Material, Row
from gru_unlearn.reporting.example_table import word_diff
from gru_unlearn.reporting.tables import at_end, at_start
from gru_unlearn.reporting.verdict import Evidence, Kept

KEPT = {"held-out": "held_out_prob", "retain": "retain_prob"}

RMF = {"held-out": "rmf_held_out", "retain": "rmf"}

SETS = {"held-out": "held_out", "retain": "retain"}


def run_evidence(material: Material) -> Evidence:
    """A run's numbers for its verdict."""
    summary = material.summary
    start, end, results = at_start(summary), at_end(summary), summary["results"]
    kept = {
        name: Kept(start.get(key), end[key], *by_retain_model(material.examples, SETS[name]), results.get(RMF[name]))
        for name, key in KEPT.items()
        if key in end
    }
    return Evidence(
        start.get("forget_prob"),
        end.get("forget_prob"),
        results.get("forget_target"),
        end.get("forget_quality"),
        *recited(material.examples),
        kept=kept,
    )


def recited(examples: Row | None) -> tuple[int | None, int | None, int | None]:
    """Recorded forget rows that the model answers word for word; those that the retain model does; how many asked."""
    rows = examples["sets"]["forget"]["rows"] if examples and "forget" in examples["sets"] else []
    counts: dict[str, int | None] = {}
    for moment in ("after", "retain_model"):
        said = [(row["answer"], row[moment]["says"]) for row in rows if "says" in (row.get(moment) or {})]
        counts[moment] = sum(not word_diff(*pair) for pair in said) if said else None
        counts[f"asked {moment}"] = len(said)
    return counts["after"], counts["retain_model"], counts["asked after"]


def by_retain_model(examples: Row | None, name: str) -> tuple[float | None, int | None]:
    """The retain model's mean probability over a set's recorded rows, and how many these are unless all."""
    part = ((examples or {}).get("sets") or {}).get(name)
    values = [row["retain_model"]["probability"] for row in part["rows"] if row.get("retain_model")] if part else []
    known = [value for value in values if value is not None]
    if not part or not known:
        return None, None
    return fmean(known), None if len(known) == part["rows_in_set"] else len(known)


def demo_evidence(material: Material, row: Row) -> Evidence:
    """Of one run in the demonstration's table."""
    summary, run = material.summary, material.runs.get(row["name"])
    evidence = evidence_beside(summary["target"], summary["retain_model"], row)
    said, by_retain, asked = recited(run.examples if run else None)
    return replace(evidence, forget_recited=said, forget_recited_by_retain_model=by_retain, forget_asked=asked)


def evidence_beside(target: Row, retain: Row, row: Row) -> Evidence:
    """Of a row of results, beside those of the target and of the retain model."""
    kept = {
        name: Kept(target.get(key), row[key], retain.get(key), None, row.get(RMF[name]))
        for name, key in KEPT.items()
        if row.get(key) is not None
    }
    return Evidence(
        target.get("forget_prob"),
        row.get("forget_prob"),
        retain.get("forget_prob"),
        row.get("forget_quality"),
        kept=kept,
    )


def compare_evidence(summary: Row, row: Row) -> Evidence:
    """Means over the seeds of a method at its chosen learning rate; of forget quality, a p-value, the median."""
    key = ("objective", "rectification", "learning_rate")
    cells = [cell for cell in summary["cells"] if all(cell[k] == row[k] for k in key) and cell["status"] == "done"]
    qualities = [cell["forget_quality"] for cell in cells if cell.get("forget_quality") is not None]
    names = ("forget_prob", *KEPT.values(), *RMF.values())
    means = {name: row[name]["mean"] if row.get(name) else None for name in names}
    means["forget_quality"] = median(qualities) if qualities else None
    return evidence_beside(summary["target"], summary["retain_model"], means)


def evaluation_evidence(material: Material) -> Evidence:
    """An evaluation knows one model, and of the retain model what the metrics needed."""
    metrics = material.summary["metrics"]
    names = {"held-out": "held_out_Q_A_Prob", "retain": "retain_Q_A_Prob"}
    kept = {name: Kept(None, metrics[key]) for name, key in names.items() if metrics.get(key) is not None}
    return Evidence(
        None,
        metrics.get("forget_Q_A_Prob"),
        material.forget_retain_model,
        metrics.get("forget_quality"),
        *recited(material.examples),
        kept=kept,
    )
