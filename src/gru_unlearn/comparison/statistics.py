"""A comparison's statistics: intervals over seeds, the choice of learning rates, differences to one method."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median, stdev

from scipy import stats

from gru_unlearn.results.comparison_summary import (
    CellResult,
    Equal,
    Interval,
    Method,
    MethodResult,
    PairedDifference,
)
from gru_unlearn.results.cost_kinds import cost_held_equal
from gru_unlearn.results.row_kinds import HELD_OUT, RETAIN

CONFIDENCE = 0.95

RETENTION = (
    "rmf", "rmf_held_out", "rmf_at_half", "rmf_held_out_at_half", "rmf_at_quarter", "rmf_held_out_at_quarter",
)  # fmt: skip
"""Retention at f*, and where the forget probability has fallen to a half and to a quarter of the target's."""

PAIRED = (*RETENTION, "forget_quality", "model_utility")
"""Measures of which more is better; each is compared with the plain run of the same seed."""

MEASURES = (
    *PAIRED, "extraction_strength", "forget_prob", "retain_prob", "held_out_prob", "steps_to_target", "steps",
    "cost_steps", "cost_rows", "cost_seconds", "seconds_per_step", "peak_memory_mb", "peak_gpu_memory_mb",
)  # fmt: skip


def mean_interval(values: Iterable[float | None]) -> Interval | None:
    """Mean with its 95 % interval by Student's t.

    None stands for a seed without a value and is left out. One value gives no interval, no value gives None.
    """
    known = [value for value in values if value is not None]
    if not known:
        return None
    mean, n = fmean(known), len(known)
    if n == 1:
        return Interval(mean=mean, low=None, high=None, n=1)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * stdev(known) / math.sqrt(n)
    return Interval(mean=mean, low=mean - half, high=mean + half, n=n)


def paired_difference(values: Mapping[int, float | None], plain: Mapping[int, float | None]) -> PairedDifference | None:
    """Mean of ``values - plain`` over the seeds that have both, with its 95 % interval; None where no seed has both."""
    differences = []
    for seed, value in values.items():
        base = plain.get(seed)
        if value is not None and base is not None:
            differences.append(value - base)
    found = mean_interval(differences)
    if found is None:
        return None
    wins = sum(difference > 0 for difference in differences)
    excludes_zero = found.low is not None and found.high is not None and not found.low <= 0 <= found.high
    return PairedDifference.model_validate({**dict(found), "wins": wins, "excludes_zero": excludes_zero})


def aggregate(cells: Sequence[CellResult], equal: Equal | None = None, against: str = "none") -> list[MethodResult]:
    """One row for each objective, rectification and learning rate, in the order in which they first occur.

    Args:
        cells: all runs.
        equal: what is held equal; budgets that it does not have are set: see :func:`least_budget`. By default rows.
        against: the method with which the chosen rows of an objective are compared, measure by measure of
            :data:`PAIRED`, beside the plain one.
    """
    equal = equal or Equal()
    groups: dict[tuple[str, str, float], list[CellResult]] = {}
    for cell in cells:
        groups.setdefault(cell.method, []).append(cell)
    rows = [_over_seeds(group) for group in groups.values()]
    if equal.what != "rows":
        _hold_to_budgets(rows, groups, equal)
    chosen = _choose(rows)
    for row in chosen.values():
        row.chosen = True
        if row.within_budget is False:
            continue
        to_plain = _differences(groups, row, chosen.get((row.objective, "none")))
        if to_plain:
            row.against_none = to_plain
        if against != "none":
            row.against = _differences(groups, row, chosen.get((row.objective, against)))
    return rows


def _differences(
    groups: Mapping[tuple[str, str, float], Sequence[CellResult]], row: MethodResult, other: MethodResult | None
) -> dict[str, PairedDifference | None]:
    """Of the row's runs to those of the other row; none where there is no other to compare with."""
    if other is None or other is row or other.within_budget is False:
        return {}
    ours, theirs = groups[row.method], groups[other.method]
    return {m: paired_difference(_by_seed(ours, m), _by_seed(theirs, m)) for m in PAIRED}


def _over_seeds(cells: Sequence[CellResult]) -> MethodResult:
    done = [cell for cell in cells if cell.done]
    who = {name: getattr(cells[0], name) for name in Method.model_fields}
    measures = {name: mean_interval(_by_seed(done, name).values()) for name in MEASURES}
    reached = sum(cell.steps_to_target is not None for cell in done)
    counts = {"runs": len(cells), "failed": len(cells) - len(done), "reached": reached}
    return MethodResult.model_validate({**who, **counts, **measures, "chosen": False})


def _by_seed(cells: Sequence[CellResult], name: str) -> dict[int, float | None]:
    return {cell.seed: cell.get(name) for cell in cells if cell.done}


# --- equal cost ------------------------------------------------------------------------------------------------------


def _hold_to_budgets(
    rows: Sequence[MethodResult], groups: Mapping[tuple[str, str, float], Sequence[CellResult]], equal: Equal
) -> None:
    """Say of every row whether it keeps to its objective's budget."""
    key = cost_held_equal(equal.what).key
    costs = {method: median_cost(group, key) for method, group in groups.items()}
    for objective in dict.fromkeys(row.objective for row in rows):
        of_objective = [row for row in rows if row.objective == objective]
        if objective not in equal.budgets:
            budget = least_budget({row.method: costs[row.method] for row in of_objective})
            if budget is not None:
                equal.budgets = {**equal.budgets, objective: budget}
        for row in of_objective:
            row.within_budget = costs[row.method] <= equal.budgets.get(objective, 0.0)


def median_cost(cells: Sequence[CellResult], key: str) -> float:
    """Over the seeds; one that does not get to f* takes for ever."""
    costs = [cell.get(key) if cell.done else None for cell in cells]
    return median(math.inf if cost is None else cost for cost in costs)


def least_budget(costs: Mapping[tuple[str, str, float], float]) -> float | None:
    """The least within which every method gets to f* at some learning rate; those that never get there have no say.

    Args:
        costs: (objective, rectification, learning rate) → its median cost.

    Returns:
        None where no method gets there.
    """
    fastest: dict[str, float] = {}
    for (_, rectification, _), cost in costs.items():
        fastest[rectification] = min(cost, fastest.get(rectification, math.inf))
    return max(filter(math.isfinite, fastest.values()), default=None)


# --- which learning rate ---------------------------------------------------------------------------------------------


def _choose(rows: Sequence[MethodResult]) -> dict[tuple[str, str], MethodResult]:
    """Objective and rectification → the row of its best learning rate, of equals the first."""
    best: dict[tuple[str, str], MethodResult] = {}
    for row in rows:
        method = row.objective, row.rectification
        if method not in best or _merit(row) > _merit(best[method]):
            best[method] = row
    return best


def _merit(row: MethodResult) -> tuple[float, ...]:
    """What :func:`rule_of` tells, most important first."""
    allowed = row.within_budget is not False
    steps = row.mean("steps_to_target") or 0.0
    before = [*_kept(row, "_at_quarter"), *_kept(row, "_at_half")]
    return allowed, row.reached, _kept(row, "")[1], -steps, *before


def _kept(row: MethodResult, level: str) -> tuple[int, float]:
    """Of held-out rows, of retain rows where there are none: seeds that got so far, and their mean."""
    found = row.measure(HELD_OUT.rmf + level) or row.measure(RETAIN.rmf + level)
    return (0, -math.inf) if found is None else (found.n, found.mean)
