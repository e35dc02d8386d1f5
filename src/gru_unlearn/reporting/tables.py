"""Tables for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table


def shown(value: Any) -> str:
    """A number with three digits after the point (tiny ones as powers of ten), text as it is, None as a dash."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.0e}" if 0 < abs(value) < 5e-4 else f"{value:.3f}"
    return str(value)


def results_table(title: str, columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table with one line per row; ``columns`` maps the rows' keys to headings, the first column holds names."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for number, heading in enumerate(columns.values()):
        table.add_column(heading, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(shown(row.get(key)) for key in columns))
    return table


_RUN_LINES = {
    "forget_prob": "forget probability",
    "retain_prob": "retain probability",
    "held_out_prob": "held-out probability",
}


def run_table(summary: Mapping[str, Any]) -> Table:
    """One run: each set's mean answer probability before and after, and what stands in the summary beside it."""
    first, last, results = summary["trajectory"][0], summary["trajectory"][-1], summary["results"]
    steps = summary["steps"]
    table = Table(title=f"{results['objective']} · {results['rectification']} · {steps} steps", title_justify="left")
    for heading in ("", "before", "after", "retain model"):
        table.add_column(heading, justify="right" if heading else "left")
    for key, label in _RUN_LINES.items():
        if key in last:
            mark = results.get("forget_target") if key == "forget_prob" else None
            table.add_row(label, shown(first[key]), shown(last[key]), shown(mark))
    for key, label in (("rmf", "retention at matched forgetting"), ("rmf_held_out", "the same, held-out rows")):
        if key in results:
            table.add_row(label, "", shown(results[key]) if results[key] is not None else "not reached", "")
    table.add_row("steps with a conflict", "", "–" if results["conflict_rate"] is None else f"{results['conflict_rate']:.0%}", "")
    return table
