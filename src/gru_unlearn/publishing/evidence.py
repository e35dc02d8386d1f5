"""From summaries to the numbers that a verdict judges."""

from statistics import fmean

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
