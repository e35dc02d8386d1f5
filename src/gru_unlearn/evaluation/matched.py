"""Retention at matched forgetting (RMF): how much is kept at the moment as much is forgotten as should be."""

from collections.abc import Mapping, Sequence
from itertools import pairwise


def retention_at_matched_forgetting(
    trajectory: Sequence[Mapping[str, float]], forget_target: float, kept: str = "retain_prob"
) -> float | None:
    """Share of the target model's retain probability that is left when forgetting first reaches ``forget_target``.

    Args:
        trajectory: points along a run, first the target model itself; each has ``forget_prob`` and ``kept``.
        forget_target: f*, the mean forget probability of the retain model (trained without the forget set).
        kept: which probability to read: retain rows used as constraint data, or rows never used (``held_out_prob``).

    Returns:
        ``kept`` linearly interpolated at the first crossing of f*, divided by its first value; None where the run
        never reaches f* ("not reached").
    """
    start = trajectory[0]
    if start["forget_prob"] <= forget_target:
        return 1.0
    for before, after in pairwise(trajectory):
        if after["forget_prob"] <= forget_target:
            way = (before["forget_prob"] - forget_target) / (before["forget_prob"] - after["forget_prob"])
            return (before[kept] + way * (after[kept] - before[kept])) / start[kept]
    return None
