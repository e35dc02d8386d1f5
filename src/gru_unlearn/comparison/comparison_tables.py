"""A comparison's tables for the terminal."""

from collections.abc import Sequence
from functools import partial

from rich.table import Table

from gru_unlearn.comparison.cost_tables import cost_notes, cost_table, grid_table
from gru_unlearn.comparison.method_columns import (
    NAME,
    RATE,
    REACHED,
    any_has,
    kept_column,
    method_table,
    narrow,
    with_margin,
)
from gru_unlearn.comparison.method_verdicts import method_name
from gru_unlearn.reporting.tables import make_table, shown
from gru_unlearn.reporting.verdict_lines import verdicts_lines
from gru_unlearn.results.comparison_summary import CellResult, ComparisonSummary, MethodResult, PairedDifference
from gru_unlearn.results.row_kinds import HELD_OUT, RETAIN, ROW_KINDS

HOW_TO_READ = (
    "RMF: share of the target's probability of kept answers at the first crossing of f*, the retain model's forget "
    "probability or what stands in for it; means are over the seeds that reached it, so compare them only where "
    "`reached` agrees. "
    "minus: paired by seed with that method's runs, on held-out rows if there are any; * the 95 % interval excludes 0, "
    "as one in twenty would by chance alone."
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
    seconds = "" if cell.cost_seconds is None else f", {cell.cost_seconds:.1f} s"
    return f"{cell.name}: f* at step {cell.steps_to_target}{seconds}, RMF {shown(cell.rmf)}{held_out}"


def comparison_report(summary: ComparisonSummary) -> list[Table | str]:
    """The tables of a comparison, what they come to, and how to read them."""
    verdicts = verdicts_lines({method_name(row): row.verdict for row in summary.chosen})
    together = [] if summary.verdict is None else [summary.verdict.sentence]
    return [*comparison_tables(summary), *together, *summary.kept_most, *verdicts, *reading(summary)]


def comparison_tables(summary: ComparisonSummary) -> list[Table]:
    """At most 80 columns wide."""
    parts = []
    for objective in summary.objectives:
        rows = [row for row in summary.aggregates if row.objective == objective]
        chosen = [row for row in rows if row.chosen]
        parts += [matched_table(objective, chosen, summary), cost_table(objective, chosen, summary.frontier)]
        parts.append(end_table(objective, chosen, summary))
        if any(row.reached < row.runs for row in chosen):
            parts.append(levels_table(objective, chosen))
        if len(rows) > len(chosen):
            parts.append(grid_table(objective, rows, summary.frontier))
    return parts


def reading(summary: ComparisonSummary) -> list[str]:
    """The rule, how to read the tables, and what went wrong."""
    return [summary.rule, HOW_TO_READ, *cost_notes(summary), *_failures(summary)]


def matched_table(objective: str, rows: Sequence[MethodResult], summary: ComparisonSummary) -> Table:
    """What is kept at the moment as much is forgotten as the retain model lacks."""
    columns = [NAME, RATE, REACHED, kept_column("RMF", RETAIN.rmf)]
    kept = RETAIN.rmf
    if any_has(rows, HELD_OUT.rmf):
        kept = HELD_OUT.rmf
        columns.append(kept_column(HELD_OUT.label, kept))
    heading, other = "minus none", ""
    if summary.against != "none":
        heading, other = "minus", f", minus {summary.against}"
    columns += [
        (heading, lambda row: _difference(row.differences.get(kept))),
        ("wins", lambda row: _wins(row.differences.get(kept))),
    ]
    whose = "" if summary.mark is None or summary.mark.kind == "retain_model" else f", {summary.mark.label}"
    mark = "" if summary.forget_target is None else f" (f* = {shown(summary.forget_target)}{whose})"
    return method_table(f"{objective} at matched forgetting{mark}, mean ± 95 % interval{other}", columns, rows)


def end_table(objective: str, rows: Sequence[MethodResult], summary: ComparisonSummary) -> Table:
    """The saved models beside the target and the retain model; means over seeds."""
    columns = {name: label for name, label in SAVED_MODELS.items() if any_has(rows, name)}
    lines: list[list[object]] = [
        ["target", *map(summary.target.get, columns)],
    ]
    name, yardstick = summary.yardstick
    if yardstick.forget_prob is not None:
        lines.append([name, *map(yardstick.get, columns)])
    lines += [[row.rectification, *map(row.mean, columns)] for row in rows]
    return narrow(make_table(f"{objective}: the saved models, mean", ("", *columns.values()), lines))


def levels_table(objective: str, rows: Sequence[MethodResult]) -> Table:
    """Retention where the forget probability falls to a half and a quarter: for methods that do not get to f*."""
    columns = [NAME]
    columns += [
        (label, partial(_mean_and_count, name)) for name, label in BEFORE_THE_MARK.items() if any_has(rows, name)
    ]
    title = f"{objective} before f*: at a half and a quarter of the target's forget probability, mean (seeds)"
    return method_table(title, columns, rows)


def _failures(summary: ComparisonSummary) -> list[str]:
    failed = [cell for cell in summary.cells if not cell.done]
    lines = []
    if failed:
        lines.append(f"{len(failed)} of {len(summary.cells)} runs failed:")
    lines += [f"  {cell_line(cell)}" for cell in failed]
    lines += [f"{c.name}: not evaluated: {c.evaluation_failed}" for c in summary.cells if c.evaluation_failed]
    return lines


# --- what stands in a column -----------------------------------------------------------------------------------------


def _difference(found: PairedDifference | None) -> str:
    """With a star where the interval excludes 0."""
    if found is None:
        return ""
    return with_margin(found, "+.3f") + (" *" if found.excludes_zero else "  ")


def _wins(found: PairedDifference | None) -> str:
    return "" if found is None else f"{found.wins}/{found.n}"


def _mean_and_count(name: str, row: MethodResult) -> str:
    found = row.measure(name)
    return f"– (0/{row.runs})" if found is None else f"{found.mean:.3f} ({found.n}/{row.runs})"
