"""Retention at matched forgetting (RMF): how much is kept at the moment as much is forgotten as should be; and what it
took to get there."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from gru_unlearn.common.explanation import Explanation


def rmf_explanations() -> tuple[Explanation, ...]:
    """RMF on retain rows used as constraint data, and on rows never used."""
    return _rmf_on("rmf", "the retain rows"), _rmf_on("rmf_held_out", "rows that the run never used")


def _rmf_on(key: str, rows: str) -> Explanation:
    return Explanation(
        key,
        f"Retention at matched forgetting: along a run, the mean probability of the answers to {rows} at the "
        "first moment when that of the forget answers is down to the retain model's (linear between evaluations), "
        "divided by what it was before the run; no value (not reached) where the run never forgets as much",
        range="0 upwards, 1 if nothing was lost",
        better="higher",
        source="this package; given by gru demo, gru compare, and gru unlearn with evaluations along the run and a "
        "mark (--retain-model, --base-model or --control-rows)",
    )


def retention_at_matched_forgetting(
    trajectory: Sequence[Mapping[str, float]], forget_target: float, kept: str = "retain_prob"
) -> float | None:
    """Share of the target model's retain probability that is left when forgetting first reaches ``forget_target``.

    Args:
        trajectory: points along a run, first the target model itself; each has ``forget_prob`` and ``kept``. Points
            without finite ones tell nothing and are passed over.
        forget_target: f*, the mean forget probability of the retain model (trained without the forget set).
        kept: which probability to read: retain rows used as constraint data, or rows never used (``held_out_prob``).

    Returns:
        ``kept`` linearly interpolated at the first crossing of f*, divided by its first value; None where the run
        never reaches f* ("not reached"), or where there was nothing to keep: its first value is 0, or not finite.
    """
    start = trajectory[0]
    if not _is_measured(start, kept) or start[kept] == 0:
        return None
    left = _at_first_crossing(trajectory, forget_target, kept)
    return None if left is None else left / start[kept]


def cost_at_matched_forgetting(
    trajectory: Sequence[Mapping[str, float]], forget_target: float, cost: str = "step"
) -> float | None:
    """What a run had taken when forgetting first reached ``forget_target``, as steps, rows or seconds.

    Args:
        trajectory: points along a run, each with ``forget_prob`` and ``cost``; those without are passed over.
        forget_target: f*.
        cost: ``step``, ``rows`` or ``seconds``.

    Returns:
        ``cost`` linearly interpolated at the first crossing of f*; None where the run never reaches it.
    """
    return _at_first_crossing(trajectory, forget_target, cost)


def _at_first_crossing(trajectory: Sequence[Mapping[str, float]], level: float, name: str) -> float | None:
    """A value where the forget probability first falls to a level, linear between the points that have both."""
    measured = [point for point in trajectory if _is_measured(point, name)]
    if not measured:
        return None
    if measured[0]["forget_prob"] <= level:
        return measured[0][name]
    for before, after in pairwise(measured):
        if after["forget_prob"] <= level:
            forgotten = before["forget_prob"] - after["forget_prob"]
            way = (before["forget_prob"] - level) / forgotten  # from one point, 0, to the next, 1
            return before[name] + way * (after[name] - before[name])
    return None


def _is_measured(point: Mapping[str, float | None], name: str) -> bool:
    values = point["forget_prob"], point.get(name)
    return all(value is not None and math.isfinite(value) for value in values)
