"""What a comparison's tables are made of: a row for each method, and what stands in its columns."""

from collections.abc import Callable, Sequence
from decimal import Decimal

from rich.table import Table

from gru_unlearn.reporting.tables import make_table
from gru_unlearn.results.comparison_summary import Interval, MethodResult

Column = tuple[str, Callable[[MethodResult], object]]
"""A heading, and what stands below it in the row of a method."""


def method_table(title: str, columns: Sequence[Column], rows: Sequence[MethodResult]) -> Table:
    """A table of methods."""
    lines = []
    for row in rows:
        lines.append([show(row) for _, show in columns])
    return narrow(make_table(title, [heading for heading, _ in columns], lines))


def narrow(table: Table) -> Table:
    """Two spaces between columns; a name, or the words of a heading, that are too long go on in the next line."""
    table.padding, table.show_edge = (0, 1, 0, 0), False
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.no_wrap = any(" " in str(cell) for cell in column.cells)  # 0.906 ± 0.010 stays together
    return table


def any_has(rows: Sequence[MethodResult], name: str) -> bool:
    """Whether a measure has a value in some row."""
    return any(row.measure(name) for row in rows)


def short(rate: float) -> str:
    """``0.0003`` → ``3e-4``, as people type it."""
    return f"{Decimal(repr(rate)).normalize():e}"


def with_margin(interval: Interval | None, form: str = ".3f") -> str:
    """``0.906 ± 0.010``, or that f* was not reached."""
    if interval is None:
        return "not reached"
    text = f"{interval.mean:{form}}"
    if interval.low is None or interval.high is None:
        return text
    return f"{text} ± {(interval.high - interval.low) / 2:.3f}"


def mean_of(interval: Interval | None, form: str) -> str:
    """The mean alone, or a dash."""
    return "–" if interval is None else f"{interval.mean:{form}}"


def mean_column(heading: str, name: str, form: str) -> Column:
    """The mean of a measure."""
    return heading, lambda row: mean_of(row.measure(name), form)


def kept_column(heading: str, name: str) -> Column:
    """Retention with its margin, or that the method costs too much to be compared."""

    def show(row: MethodResult) -> str:
        found = row.measure(name)
        if found is not None and row.within_budget is False:
            return "over budget"
        return with_margin(found)

    return heading, show


NAME: Column = "", lambda row: row.rectification
RATE: Column = "lr", lambda row: short(row.learning_rate)
REACHED: Column = "reached", lambda row: f"{row.reached}/{row.runs}"
STEPS_TO_TARGET = mean_column("steps", "steps_to_target", ".1f")
