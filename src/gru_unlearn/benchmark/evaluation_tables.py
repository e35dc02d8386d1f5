"""Evaluations on the terminal."""

from rich.table import Table

from gru_unlearn.reporting.tables import add_remarks, make_table, shown
from gru_unlearn.results.evaluation_summary import CurveSummary, EvaluationSummary


def evaluation_table(summary: EvaluationSummary) -> Table:
    """The metrics of an evaluation with their 95 % intervals; below, what is missing or remarkable, by reason."""
    rows = []
    for key, value in summary.metrics.items():
        if value is not None:
            interval = map(shown, summary.intervals.get(key, ()))
            rows.append((key, value, " – ".join(interval)))
    table = make_table(f"{summary.suite}: {summary.model.source}", ("metric", "value", "95 % interval"), rows)
    add_remarks(table, {**summary.missing, **summary.notes}.items())
    return table


_UNITS = {"forget rows": "forget row", "place in the sequence": "place"}


def curve_table(summary: CurveSummary) -> Table:
    """Each metric over a sequence of evaluations, with its change per unit of their size."""
    unit = _UNITS.get(summary.size, summary.size)
    rows = []
    for key, curve in summary.curves.items():
        slope = curve.slope
        rows.append((key, *curve.values, slope if slope is None else f"{slope:+.2g}"))
    headings = ("metric", *map(str, summary.sizes), f"change per {unit}")
    return make_table(f"{summary.suite}, by {summary.size}", headings, rows)
