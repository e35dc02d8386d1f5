"""A comparison's tables for the terminal."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial

from rich.table import Table

from gru_unlearn.comparison.method_verdicts import method_name
from gru_unlearn.comparison.statistics import RULE
from gru_unlearn.reporting.tables import make_table, shown
from gru_unlearn.reporting.verdict_lines import verdicts_lines
from gru_unlearn.results.comparison_summary import (
    CellResult,
    ComparisonSummary,
    Interval,
    MethodResult,
    PairedDifference,
)
from gru_unlearn.results.row_kinds import HELD_OUT, RETAIN, ROW_KINDS

Column = tuple[str, Callable[[MethodResult], object]]
"""A heading, and what stands below it in the row of a method."""

HOW_TO_READ = (
    "RMF: share of the target's probability of kept answers at the first crossing of f*, the retain model's forget "
    "probability; means are over the seeds that reached it, so compare them only where `reached` agrees. "
    "minus none: paired by seed with the plain runs, on held-out rows if there are any; * the 95 % interval "
    "excludes 0, as one in twenty would by chance alone."
)

SAVED_MODELS = {
    **{kind.probability: f"{kind.label} prob" for kind in ROW_KINDS},
    "forget_quality": "forget quality",
    "model_utility": "utility",
    "extraction_strength": "extraction",
}

BEFORE_THE_MARK = {
    "rmf_at_half": "RMF at f/2",
    "rmf_held_out_at_half": "held-out at f/2",
    "rmf_at_quarter": "RMF at f/4",
    "rmf_held_out_at_quarter": "held-out at f/4",
}


def cell_line(cell: CellResult) -> str:
    """One finished cell in one line."""
    if not cell.done:
        return f"{cell.name}: failed: {cell.reason}"
    if cell.steps_to_target is None:
        return f"{cell.name}: f* not reached in {cell.steps} steps (forget prob {cell.forget_prob:.3f})"
    held_out = "" if cell.rmf_held_out is None else f", held-out {cell.rmf_held_out:.3f}"
    return f"{cell.name}: f* at step {cell.steps_to_target}, RMF {shown(cell.rmf)}{held_out}"


def comparison_report(summary: ComparisonSummary) -> list[Table | str]:
    """The tables of a comparison, at most 120 columns wide for names up to 27, the rule, and what went wrong."""
    parts: list[Table | str] = []
    for objective in summary.objectives:
        rows = [row for row in summary.aggregates if row.objective == objective]
        chosen = [row for row in rows if row.chosen]
        parts += [matched_table(objective, chosen, summary.forget_target), end_table(objective, chosen, summary)]
        if any(row.reached < row.runs for row in chosen):
            parts.append(levels_table(objective, chosen))
        if len(rows) > len(chosen):
            parts.append(grid_table(objective, rows))
    verdicts = verdicts_lines({method_name(row): row.verdict for row in summary.chosen})
    return [*parts, *verdicts, RULE, HOW_TO_READ, *_failures(summary)]


def matched_table(objective: str, rows: Sequence[MethodResult], forget_target: float | None) -> Table:
    """What is kept at the moment as much is forgotten as the retain model lacks, and what it costs to get there."""
    columns = [_NAME, _RATE, _REACHED, _RMF]
    kept = RETAIN.rmf
    if _any_has(rows, HELD_OUT.rmf):
        kept = HELD_OUT.rmf
        columns.append((HELD_OUT.label, lambda row: with_margin(row.measure(kept))))
    memory, heading = "peak_memory_mb", "peak MB"
    if _any_has(rows, "peak_gpu_memory_mb"):
        memory, heading = "peak_gpu_memory_mb", "GPU MB"
    columns += [
        ("minus none", lambda row: _difference(row.against_none.get(kept))),
        ("wins", lambda row: _wins(row.against_none.get(kept))),
        _STEPS,
        ("s/step", lambda row: mean_of(row.measure("seconds_per_step"), ".3f")),
        (heading, lambda row: mean_of(row.measure(memory), ".0f")),
    ]
    mark = "" if forget_target is None else f" (f* = {shown(forget_target)})"
    return _method_table(f"{objective} at matched forgetting{mark}, mean ± 95 % interval", columns, rows)


def end_table(objective: str, rows: Sequence[MethodResult], summary: ComparisonSummary) -> Table:
    """The saved models beside the target and the retain model; means over seeds."""
    columns = {name: label for name, label in SAVED_MODELS.items() if _any_has(rows, name)}
    lines: list[list[object]] = [
        ["target", *map(summary.target.get, columns)],
        ["retain model", *map(summary.retain_model.get, columns)],
    ]
    lines += [[row.rectification, *map(row.mean, columns)] for row in rows]
    return _narrow(make_table(f"{objective}: the saved models, mean", ("", *columns.values()), lines))


def levels_table(objective: str, rows: Sequence[MethodResult]) -> Table:
    """Retention where the forget probability falls to a half and a quarter: for methods that do not get to f*."""
    columns = [_NAME]
    columns += [
        (label, partial(_mean_and_count, name)) for name, label in BEFORE_THE_MARK.items() if _any_has(rows, name)
    ]
    title = f"{objective} before f*: at a half and a quarter of the target's forget probability, mean (seeds)"
    return _method_table(title, columns, rows)


def grid_table(objective: str, rows: Sequence[MethodResult]) -> Table:
    """Every learning rate, and what decided which one is shown above."""
    chosen: Column = "", lambda row: "chosen" if row.chosen else ""
    failed: Column = "failed", lambda row: row.failed or ""
    return _method_table(
        f"{objective}: all learning rates", [_NAME, _RATE, chosen, _REACHED, failed, _RMF, _STEPS], rows
    )


def _method_table(title: str, columns: Sequence[Column], rows: Sequence[MethodResult]) -> Table:
    lines = []
    for row in rows:
        lines.append([show(row) for _, show in columns])
    return _narrow(make_table(title, [heading for heading, _ in columns], lines))


def _narrow(table: Table) -> Table:
    """Two spaces between columns; a name that is too long goes on in the next line."""
    table.padding, table.show_edge = (0, 1, 0, 0), False
    table.columns[0].overflow = "fold"
    for column in table.columns[1:]:
        column.no_wrap = True
    return table


def _any_has(rows: Sequence[MethodResult], name: str) -> bool:
    return any(row.measure(name) for row in rows)


def _failures(summary: ComparisonSummary) -> list[str]:
    failed = [cell for cell in summary.cells if not cell.done]
    lines = []
    if failed:
        lines.append(f"{len(failed)} of {len(summary.cells)} runs failed:")
    lines += [f"  {cell_line(cell)}" for cell in failed]
    lines += [f"{c.name}: not evaluated: {c.evaluation_failed}" for c in summary.cells if c.evaluation_failed]
    return lines


# --- what stands in a column -----------------------------------------------------------------------------------------


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


def _difference(found: PairedDifference | None) -> str:
    """With a star where the interval excludes 0."""
    if found is None:
        return ""
    return with_margin(found, "+.3f") + (" *" if found.excludes_zero else "  ")


def _wins(found: PairedDifference | None) -> str:
    return "" if found is None else f"{found.wins}/{found.n}"


def _mean_and_count(name: str, row: MethodResult) -> str:
    found = row.measure(name)
    return f"not reached (0/{row.runs})" if found is None else f"{found.mean:.3f} ({found.n}/{row.runs})"


_NAME: Column = "", lambda row: row.rectification
_RATE: Column = "lr", lambda row: short(row.learning_rate)
_REACHED: Column = "reached", lambda row: f"{row.reached}/{row.runs}"
_RMF: Column = "RMF", lambda row: with_margin(row.measure(RETAIN.rmf))
_STEPS: Column = "steps", lambda row: mean_of(row.measure("steps_to_target"), ".1f")
