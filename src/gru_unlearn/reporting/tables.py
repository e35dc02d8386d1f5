"""Tables for the terminal, from summaries."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from gru_unlearn.common import numbers


def text_or_dash(value: Any, form: str = "") -> str:
    """A value in a format, by default as it is; None as a dash."""
    if value is None:
        return "–"
    return f"{value:{form}}"


def shown(value: Any) -> str:
    """A number with three digits after the point (tiny ones as powers of ten), text as it is, None as a dash."""
    if not isinstance(value, float):
        return text_or_dash(value)
    return numbers.shown(value)


def plural(count: int, word: str) -> str:
    """``1 row``, ``2 rows``."""
    if count == 1:
        return f"1 {word}"
    return f"{count} {word}s"


def make_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """First column to the left, numbers to the right."""
    table = Table(title=title, title_style="bold", title_justify="left", caption_justify="left")
    table.box, table.pad_edge = SIMPLE_HEAD, False
    for heading in headings:
        table.add_column(heading, justify="right")
    table.columns[0].justify = "left"
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
    if table.caption:
        table.min_width = 80
