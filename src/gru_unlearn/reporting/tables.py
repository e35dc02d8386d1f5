"""Tables for the terminal, from summaries."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table


def shown(value: Any) -> str:
    """A number with three digits after the point (tiny ones as powers of ten), text as it is, None as a dash."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.0e}" if 0 < abs(value) < 5e-4 else f"{value:.3f}"
    return str(value)


def make_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """First column to the left, numbers to the right."""
    table = Table(title=title, title_style="bold", title_justify="left", caption_justify="left")
    table.box, table.pad_edge = SIMPLE_HEAD, False
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    for row in rows:
        table.add_row(*(shown(value) for value in row))
    return table


def by_reason(reasons: Iterable[tuple[str, str]]) -> dict[str, str]:
    """(Name, reason) pairs → reason → all its names in one text."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons:
        names.setdefault(reason, []).append(name)
    return {reason: ", ".join(of) for reason, of in names.items()}


def add_remarks(table: Table, reasons: Iterable[tuple[str, str]]) -> None:
    """Say below a table what its numbers cannot: (name, reason) pairs."""
    table.caption = "\n".join(f"{names}: {reason}" for reason, names in by_reason(reasons).items()) or None
    table.min_width = 80 if table.caption else None


_DEMO_LINES = {
    "forget_prob": "forget prob",
    "retain_prob": "retain prob",
    "held_out_prob": "held-out prob",
    "forget_exact_answers": "forget exact",
    "retain_exact_answers": "retain exact",
    "held_out_exact_answers": "held-out exact",
    "forget_quality": "forget quality",
    "model_utility": "model utility",
    "rmf": "RMF retain",
    "rmf_held_out": "RMF held-out",
    "steps": "steps",
}
_HOW_TO_READ = (
    "Each run stops once it has forgotten as much as the retain model, which never saw the five people (forget prob: "
    "mean probability of the true answers; exact: share of questions answered word for word). What counts then is what "
    "was kept. RMF is the kept share of the target's probability at exactly that moment, 1 being perfect: on people "
    "that guarded the run (retain), and on people that no run ever looked at (held-out). Forget quality above 0.05: on "
    "the questions to forget, a test can no longer tell the model from the retain model.\n"
)


def demo_report(summary: Mapping[str, Any]) -> list[Any]:
    """The demonstration's table, how to read it, and sample questions."""
    columns = {"target": summary["target"], "retain model": summary["retain_model"]} | {
        row["name"]: row for row in summary["results"]
    }
    lines = [(label, *(column.get(key, "") for column in columns.values())) for key, label in _DEMO_LINES.items()]
    table = make_table("Forgetting 5 of 50 invented people", ("", *columns), lines)
    return [table, _HOW_TO_READ, *_samples(summary["sample"])]


def _samples(samples: Mapping[str, Any]) -> list[Table]:
    titles = {"forget": "Should be forgotten", "held_out": "Should still be known"}
    tables = []
    for name, title in titles.items():
        sample = samples[name]
        rows = [("truth", sample["truth"]), *sample["answers"].items()]
        table = make_table(title, ("question", sample["question"]), rows)
        table.columns[1].justify = "left"
        tables.append(table)
    return tables
