"""A comparison's statistics: intervals over seeds, the choice of learning rates, differences to plain runs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev

from scipy import stats

from gru_unlearn.results.comparison_summary import CellResult, Interval, Method, MethodResult, PairedDifference

CONFIDENCE = 0.95

RETENTION = (
    "rmf", "rmf_held_out", "rmf_at_half", "rmf_held_out_at_half", "rmf_at_quarter", "rmf_held_out_at_quarter",
)  # fmt: skip
"""Retention at f*, and where the forget probability has fallen to a half and to a quarter of the target's."""

PAIRED = (*RETENTION, "forget_quality", "model_utility")
"""Measures of which more is better; each is compared with the plain run of the same seed."""

MEASURES = (
    *PAIRED, "extraction_strength", "forget_prob", "retain_prob", "held_out_prob", "steps_to_target", "steps",
    "seconds_per_step", "peak_memory_mb", "peak_gpu_memory_mb",
)  # fmt: skip

RULE = (
    "Every method of an objective has the same data, batches, seeds, learning-rate grid and step budget, but for what "
    "its name says after @. Shown is each method at its own best learning rate: the one that reaches f* in most seeds; "
    "among these the highest mean RMF on retain rows, never on held-out rows; at a tie the fewest steps. Where none "
    "reaches f*, retention at a quarter, then at half of the target's forget probability decides in the same way."
)


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


def aggregate(cells: Sequence[CellResult]) -> list[MethodResult]:
    """One row for each objective, rectification and learning rate, in the order in which they first occur.

    Rows are chosen by :data:`RULE`; a chosen one has each of :data:`PAIRED` against the chosen plain row of the same
    objective.
    """
    groups: dict[tuple[str, str, float], list[CellResult]] = {}
    for cell in cells:
        groups.setdefault(cell.method, []).append(cell)
    rows = [_over_seeds(group) for group in groups.values()]
    chosen = _choose(rows)
    for row in chosen.values():
        row.chosen = True
        plain = chosen.get((row.objective, "none"))
        if plain is not None and plain is not row:
            ours, theirs = groups[row.method], groups[plain.method]
            row.against_none = {m: paired_difference(_by_seed(ours, m), _by_seed(theirs, m)) for m in PAIRED}
    return rows


def _over_seeds(cells: Sequence[CellResult]) -> MethodResult:
    done = [cell for cell in cells if cell.done]
    who = {name: getattr(cells[0], name) for name in Method.model_fields}
    measures = {name: mean_interval(_by_seed(done, name).values()) for name in MEASURES}
    reached = sum(cell.steps_to_target is not None for cell in done)
    counts = {"runs": len(cells), "failed": len(cells) - len(done), "reached": reached}
    return MethodResult.model_validate({**who, **counts, **measures, "chosen": False})


def _choose(rows: Sequence[MethodResult]) -> dict[tuple[str, str], MethodResult]:
    """Objective and rectification → the row of its best learning rate, of equals the first."""
    best: dict[tuple[str, str], MethodResult] = {}
    for row in rows:
        method = row.objective, row.rectification
        if method not in best or _merit(row) > _merit(best[method]):
            best[method] = row
    return best


def _merit(row: MethodResult) -> tuple[float, ...]:
    """What RULE compares, most important first."""
    _, kept = _count_and_mean(row, "rmf")
    steps = row.mean("steps_to_target") or 0.0
    quarter, half = _count_and_mean(row, "rmf_at_quarter"), _count_and_mean(row, "rmf_at_half")
    return row.reached, kept, -steps, *quarter, *half


def _count_and_mean(row: MethodResult, name: str) -> tuple[int, float]:
    found = row.measure(name)
    return (0, -math.inf) if found is None else (found.n, found.mean)


def _by_seed(cells: Sequence[CellResult], name: str) -> dict[int, float | None]:
    return {cell.seed: cell.get(name) for cell in cells if cell.done}
