"""Tables for the terminal, from summaries."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from gru_unlearn.errors import UserError, nearest


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


def at_start(summary: Mapping[str, Any]) -> Mapping[str, Any]:
    """The measurements of a run's model before the first step; empty where there were none."""
    points = summary["trajectory"]
    return points[0] if points and points[0]["step"] == 0 else {}


def at_end(summary: Mapping[str, Any]) -> Mapping[str, Any]:
    """The measurements of the model that a run saved."""
    best = summary.get("best")
    return best["metrics"] if best else summary["results"]


def run_table(summary: Mapping[str, Any]) -> Table:
    """One run: each set's mean answer probability before and after, and what stands in the summary beside it."""
    results, start, end = summary["results"], at_start(summary), at_end(summary)
    title = f"{results['objective']} · {results['rectification']} · {summary['steps']} steps"
    if best := summary.get("best"):
        title += f", saved is step {best['step']}"
    rows: list[tuple[Any, ...]] = []
    labels = {"forget_prob": "forget", "retain_prob": "retain", "held_out_prob": "held-out"}
    for key, label in labels.items():
        if key in end:
            mark = results.get("forget_target") if key == "forget_prob" else None
            rows.append((f"{label} probability", start.get(key), end[key], mark))
    for key, label in (("rmf", "retention at matched forgetting"), ("rmf_held_out", "the same on held-out rows")):
        if key in results:
            rows.append((label, "", "not reached" if results[key] is None else results[key], ""))
    if results["conflict_rate"] is not None:
        rows.append(("steps with a conflict", "", f"{results['conflict_rate']:.0%}", ""))
    return make_table(title, ("", "before", "after", "retain model"), rows)


def evaluation_table(summary: Mapping[str, Any]) -> Table:
    """The metrics of an evaluation with their 95 % intervals; below, what is missing or remarkable, by reason."""
    rows = []
    for key, value in summary["metrics"].items():
        if value is not None:
            low, high = summary["intervals"].get(key, (None, None))
            rows.append((key, value, "" if low is None else f"{shown(low)} – {shown(high)}"))
    table = make_table(f"{summary['suite']}: {summary['model']['source']}", ("metric", "value", "95 % interval"), rows)
    add_remarks(table, {**summary["missing"], **summary["notes"]}.items())
    return table


def curve_table(summary: Mapping[str, Any]) -> Table:
    """Each metric over a sequence of evaluations, with its change per unit of their size."""
    headings = ("metric", *map(str, summary["sizes"]), f"change per {_UNITS.get(summary['size'], summary['size'])}")
    rows = [(key, *curve["values"], _signed(curve["slope"])) for key, curve in summary["curves"].items()]
    return make_table(f"{summary['suite']}, by {summary['size']}", headings, rows)


_UNITS = {"forget rows": "forget row", "place in the sequence": "place"}


def _signed(slope: float | None) -> str | None:
    return None if slope is None else f"{slope:+.2g}"


def explanation(metrics: Mapping[str, Any], key: str) -> str:
    """Definition, range, direction and source of a metric, or of all.

    Raises:
        UserError: there is no such metric.
    """
    if key != "all" and key not in metrics:
        raise UserError(f"unknown metric {key!r}{nearest(key, metrics)}")
    wanted = metrics.values() if key == "all" else [metrics[key]]
    return "\n\n".join(
        f"{m.key}\n  {m.definition}\n  range {m.range}; better: {m.better}; source: {m.source}" for m in wanted
    )
