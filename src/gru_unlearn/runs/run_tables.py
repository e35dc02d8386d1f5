"""Runs on the terminal."""

from collections.abc import Sequence

from rich.table import Table

from gru_unlearn.reporting.tables import make_table, shown
from gru_unlearn.results.mark import label_of_mark
from gru_unlearn.results.model_metrics import UNMEASURED, AlphaPoint, Metrics
from gru_unlearn.results.row_kinds import FORGET, HELD_OUT, RETAIN, ROW_KINDS, RowKind
from gru_unlearn.results.run_summary import RunSummary, TruSummary


def run_table(summary: RunSummary) -> Table:
    """One run: each set's mean answer probability before and after, and what stands in the summary beside it."""
    results, start, end = summary.results, summary.start or UNMEASURED, summary.end
    title = f"{results.method} · {summary.steps} steps"
    if summary.best:
        title += f", saved is step {summary.best.step}"
    marks = {FORGET: results.forget_target}
    rows: list[tuple[object, ...]] = []
    for kind in ROW_KINDS:
        after = end.probability(kind)
        if after is not None:
            rows.append((f"{kind.label} probability", start.probability(kind), after, marks.get(kind)))
    for kind, label in ((RETAIN, "retention at matched forgetting"), (HELD_OUT, "the same on held-out rows")):
        if results.has(kind.rmf):
            rows.append((label, "", _reached(results, kind), ""))
    if results.conflict_rate is not None:
        rows.append(("steps with a conflict", "", f"{results.conflict_rate:.0%}", ""))
    return make_table(title, ("", "before", "after", label_of_mark(results.known_mark)), rows)


def end_line(summary: RunSummary) -> str | None:
    """Why a run on its own ended; None where nothing is on record."""
    stopped = summary.results.stopped
    if stopped is None:
        return None
    return f"Ended at step {stopped.step}, saved is step {summary.saved_step}: {stopped.sentence}."


def tru_table(summary: TruSummary) -> Table:
    """TRU beside the plain negated task vector: what each α left of every set, and retention at matched forgetting."""
    results = summary.results
    title = f"TRU · {len(summary.groups)} groups · saved with α = {results.tru.alpha:g}"
    if results.forget_target is not None:
        whose = "" if results.mark is None else f" ({results.mark.label})"
        title += f" · forget probability wanted: {shown(results.forget_target)}{whose}"
    kinds = [kind for kind in ROW_KINDS if results.tru.has(kind.probability)]
    tru, negated = _by_alpha(summary.trajectory["tru"]), _by_alpha(summary.trajectory["negated"])
    rows: list[list[object]] = []
    for alpha in sorted({*tru, *negated}):
        row: list[object] = [f"α {alpha:g}"]
        for points in (tru, negated):
            point = points.get(alpha, UNMEASURED)
            row += [point.probability(kind) for kind in kinds]
        rows.append(row)
    empty = [""] * (len(kinds) - 1)
    for kind in (RETAIN, HELD_OUT):
        if kind in kinds:
            reached = [_reached(results.tru, kind), *empty, _reached(results.negated, kind), *empty]
            rows.append([f"RMF {kind.label}", *reached])
    labels = [kind.label for kind in kinds]
    headings = ["", *(f"TRU: {label}" for label in labels), *(f"negated: {label}" for label in labels)]
    return make_table(title, headings, rows)


def short_line(summary: TruSummary) -> str | None:
    """What to do where no α forgot as much as was wanted; None where one did, or nothing was wanted."""
    goal, points = summary.results.forget_target, summary.trajectory["tru"]
    lowest = min(points, key=lambda point: point.forget_prob)
    if goal is None or lowest.forget_prob <= goal:
        return None
    return (
        f"No α up to {points[-1].alpha:g} got to {shown(goal)}, the lowest is {shown(lowest.forget_prob)}: the task "
        "vectors are short; try a higher --learning-rate, more --num-train-epochs, or larger --alphas."
    )


def _by_alpha(points: Sequence[AlphaPoint]) -> dict[float, Metrics]:
    return {point.alpha: point for point in points}


def _reached(metrics: Metrics, kind: RowKind) -> object:
    """Retention at matched forgetting, or that the run never forgot as much."""
    value = metrics.get(kind.rmf)
    return "not reached" if value is None else value
