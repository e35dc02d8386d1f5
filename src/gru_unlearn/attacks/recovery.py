"""How much came back: where the attacked model stands between the retain model and the target."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gru_unlearn.attacks.battery import RETAIN_MODEL, TARGET, UNLEARNED
from gru_unlearn.evaluation.attacks import UNSEEN
from gru_unlearn.evaluation.measure import RESAMPLES
from gru_unlearn.results.row_kinds import FORGET

Floats = npt.NDArray[np.float64]
Values = Mapping[str, Sequence[float]]
"""Set → one value per row."""

LEAST_ROOM = 0.05
"""Target and retain model must differ by this much, at the low end of the interval of their difference."""

OUTSIDE = (1 - 0.95) / 2
"""Share of the resamples on either side of the 95 % interval."""


class Recovery(NamedTuple):
    """One line of the result; the share and its interval are None where ``note`` says why."""

    unlearned: float
    target: float
    retain_model: float | None
    recovered: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""


def recovery(values: Mapping[str, Values], before: Values | None = None) -> Recovery:
    """(unlearned - retain model) / (target - retain model): 0 as if never learnt, 1 as if never unlearned.

    All three are attacked alike. Where the target as it was gives away more than under the attack, it counts as it was:
    an attack that fails on the target too brings nothing back.

    The interval is a percentile bootstrap over rows, drawn jointly for the three models, so that what the rows have in
    common cancels (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13).

    Args:
        values: model → set → one value per row; the same rows for all.
        before: the target's values in this measure without an attack, on these rows; None: there are none.
    """
    weights = _weights(values[UNLEARNED])
    unlearned, target = (_statistic(values[name], weights) for name in (UNLEARNED, TARGET))  # [1 + R]
    if before is not None:
        target = max(target, _statistic(before, weights), key=lambda drawn: float(drawn[0]))
    if RETAIN_MODEL not in values:
        return Recovery(float(unlearned[0]), float(target[0]), None, note="no retain model")
    zero = _statistic(values[RETAIN_MODEL], weights)
    room = target - zero

    points = float(unlearned[0]), float(target[0]), float(zero[0])
    if min(map(len, values[UNLEARNED].values())) < 2:
        return Recovery(*points, note="not measurable, one row has no interval")
    if np.quantile(room[1:], OUTSIDE) < LEAST_ROOM:
        return Recovery(*points, note="not measurable, target and retain model hardly differ")
    share = (unlearned - zero)[room > 0] / room[room > 0]  # of the resamples 2.5 % at most have none
    low, high = np.quantile(share[1:], [OUTSIDE, 1 - OUTSIDE])
    return Recovery(*points, float(share[0]), float(low), float(high))


def _weights(sets: Values) -> dict[str, Floats]:
    """Set → [1 + R, n], how often each row is drawn: once each, then at random."""
    rng = np.random.default_rng(0)
    weights = {}
    for name, rows in sets.items():
        n = len(rows)
        drawn = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
        weights[name] = np.vstack([np.ones(n), drawn])
    return weights


def _statistic(sets: Values, weights: Mapping[str, Floats]) -> Floats:
    """Mean over the rows of one set, or the area under the ROC curve between two: [1 + R]."""
    forget, times = np.asarray(sets[FORGET.key], dtype=np.float64), weights[FORGET.key]
    if UNSEEN not in sets:
        return times @ forget / len(forget)
    unseen = np.asarray(sets[UNSEEN], dtype=np.float64)
    above = (unseen[:, None] > forget) + 0.5 * (unseen[:, None] == forget)  # [unseen, forget]
    return ((weights[UNSEEN] @ above) * times).sum(axis=1) / above.size
