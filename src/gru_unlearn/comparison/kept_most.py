"""Who kept most at equal forgetting, and by how much, in a sentence: the same on the terminal, on the page and in the
summary."""

from collections.abc import Sequence

from gru_unlearn.comparison.method_columns import with_margin
from gru_unlearn.results.comparison_summary import ComparisonSummary, DemoSummary, Interval, MethodResult
from gru_unlearn.results.row_kinds import HELD_OUT, RETAIN

FEW = 3
"""Names that are told one by one."""


def who_kept_most(summary: DemoSummary) -> list[str]:
    """Of the demonstration's runs; nothing where fewer than two got as far as the retain model."""
    arrived = [row for row in summary.results if row.rmf_held_out is not None]
    if len(arrived) < 2:
        return []
    best, *others = sorted(arrived, key=lambda row: -(row.rmf_held_out or 0))
    rest = ", ".join(f"{row.name} {row.rmf_held_out:.3f} in {row.steps}" for row in others)
    return [
        f"At equal forgetting {best.name} kept most: {best.rmf_held_out:.3f} of the held-out probability in "
        f"{best.steps} steps ({rest})."
    ]


def which_kept_most(summary: ComparisonSummary) -> list[str]:
    """Of a comparison's methods, of each objective one sentence; nothing where fewer than two can be compared."""
    found = []
    for objective in summary.objectives:
        rows = [row for row in summary.chosen if row.objective == objective]
        found += _of_objective(objective, rows)
    return found


def _of_objective(objective: str, rows: Sequence[MethodResult]) -> list[str]:
    """Only methods whose runs got to f* equally often are compared: means are over these."""
    kept = HELD_OUT if any(row.measure(HELD_OUT.rmf) for row in rows) else RETAIN
    allowed = [row for row in rows if row.within_budget is not False]
    most = max((row.reached for row in allowed), default=0)
    found = {}
    for row in allowed:
        measured = row.measure(kept.rmf)
        if measured is not None and row.reached == most:
            found[row.rectification] = measured
    if len(found) < 2:
        return []
    left_out = [row.rectification for row in rows if row.rectification not in found]
    return [f"{objective}: at equal forgetting {_first_and_next(found, kept.label)}{_not_compared(left_out)}"]


def _first_and_next(found: dict[str, Interval], rows: str) -> str:
    names = sorted(found, key=lambda name: -found[name].mean)
    best, following = found[names[0]], found[names[1]]
    told = f"{names[0]} kept most: {with_margin(best)} of the {rows} probability"
    lead = best.mean - following.mean
    return f"{told}, {lead:.3f} more than {names[1]} ({with_margin(following)}{_how_sure(best, following)})."


def _how_sure(best: Interval, following: Interval) -> str:
    """Whether the order of two means may be chance."""
    if best.low is None or following.high is None:
        return "; one seed says nothing of chance"
    if best.low <= following.high:
        return "; their 95 % intervals overlap"
    return ""


def _not_compared(names: Sequence[str]) -> str:
    """Those whose mean is over fewer seeds, or over the budget."""
    if not names:
        return ""
    told = ", ".join(names) if len(names) <= FEW else f"{len(names)} methods"
    return f" Not compared: {told}, which got to f* less often or at more than the equal cost."
