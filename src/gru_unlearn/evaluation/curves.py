"""How metrics change over a sequence of runs: MUSE's scalability (growing forget sets) and sustainability (requests
one after the other)."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np


class Curve(NamedTuple):
    """One metric over a sequence of runs."""

    sizes: list[float]
    """what grows from run to run: tokens or rows to forget, or the number of requests so far"""
    values: list[float | None]
    """the metric after each run; None where it was missing"""
    slope: float | None
    """least-squares change of the metric per unit of size; None with fewer than two values"""


def curves(runs: Sequence[tuple[float, Mapping[str, float | None]]]) -> dict[str, Curve]:
    """Each metric of the runs as a curve, the runs in the order of their size.

    Retention that stays level (slope near 0) means that a method scales, or can be sustained over many requests.
    Source: Shi et al., MUSE, arXiv 2407.06460, sections 3.5 and 3.6.

    Args:
        runs: for each run its size and its ``metrics`` (:class:`gru_unlearn.evaluation.Evaluation`).
    """
    ordered = sorted(runs, key=lambda run: run[0])
    sizes = [float(size) for size, _ in ordered]
    keys = dict.fromkeys(chain.from_iterable(metrics for _, metrics in ordered))
    found = {}
    for key in keys:
        values = [metrics.get(key) for _, metrics in ordered]
        known = [(size, value) for size, value in zip(sizes, values, strict=True) if value is not None]
        found[key] = Curve(sizes, values, _slope(known))
    return found


def _slope(points: Sequence[tuple[float, float]]) -> float | None:
    if len({size for size, _ in points}) < 2:
        return None
    sizes, values = np.array(points).T
    return float(np.polyfit(sizes, values, deg=1)[0])
