"""How much came back: where the attacked model stands between the retain model, or else the base, and the target."""

from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gru_unlearn.attacks.battery import BASE, RETAIN_MODEL, TARGET, UNLEARNED
from gru_unlearn.evaluation.attacks import UNSEEN
from gru_unlearn.evaluation.measure import RESAMPLES
from gru_unlearn.results.attack_summary import ZeroLine
from gru_unlearn.results.row_kinds import FORGET

Floats = npt.NDArray[np.float64]
Values = Mapping[str, Sequence[float]]
"""Set → one value per row."""

LEAST_ROOM = 0.05
"""Target and zero line must differ by this much, at the low end of the interval of their difference."""

OUTSIDE = (1 - 0.95) / 2
"""Share of the resamples on either side of the 95 % interval."""

NO_ZERO_LINE = "no retain model: pass --retain-model, or --base-model"
ONE_ROW = "not measurable, one row has no interval"
NO_ROOM = "not measurable, the target hardly differs from a model that never saw the rows"


class Recovery(NamedTuple):
    """One line of the result; the share and its interval are None where ``note`` says why."""

    unlearned: float
    target: float
    retain_model: float | None
    base: float | None
    recovered: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""


def zero_line_of(models: Container[str]) -> ZeroLine | None:
    """The model that tells what would come out anyway: the retain model, else the base; None: there is neither."""
    if RETAIN_MODEL in models:
        return "retain_model"
    return "base" if BASE in models else None


def recovery(values: Mapping[str, Values], before: Values | None = None) -> Recovery:
    """(unlearned - zero) / (target - zero), where zero is the retain model's, else the base's: 0 as if never learnt, 1
    as if never unlearned.

    The base has not learnt what stood beside the forget rows either; docs/attacks.md has how far the two differ.

    All three are attacked alike. Where the target as it was gives away more than under the attack, it counts as it was:
    an attack that fails on the target too brings nothing back.

    The interval is a percentile bootstrap over rows, drawn jointly for the three models, so that what the rows have in
    common cancels (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13).

    Args:
        values: model → set → one value per row; the same rows for all.
        before: the target's values in this measure without an attack, on these rows; None: there are none.
    """
    weights = draws(values[UNLEARNED])
    unlearned, target = _statistic(values[UNLEARNED], weights), _target(values, before, weights)  # [1 + R]
    drawn = {name: _statistic(values[name], weights) for name in (RETAIN_MODEL, BASE) if name in values}
    found = {name: float(statistic[0]) for name, statistic in drawn.items()}
    points = float(unlearned[0]), float(target[0]), found.get(RETAIN_MODEL), found.get(BASE)
    zero_line = zero_line_of(values)
    if zero_line is None:
        return Recovery(*points, note=NO_ZERO_LINE)
    if min(map(len, values[UNLEARNED].values())) < 2:
        return Recovery(*points, note=ONE_ROW)
    share = _share(unlearned, target, drawn[zero_line])
    if share is None:
        return Recovery(*points, note=NO_ROOM)
    low, high = np.nanquantile(share[1:], [OUTSIDE, 1 - OUTSIDE])
    return Recovery(*points, float(share[0]), float(low), float(high))


def drawn_shares(
    values: Mapping[str, Values], zero_line: ZeroLine, before: Values | None, weights: Mapping[str, Floats]
) -> Floats | None:
    """The share brought back of all rows, and of each resample that ``weights`` draws: [1 + R], NaN where target and
    zero line do not differ in a resample. None where they hardly differ at all."""
    unlearned, zero = _statistic(values[UNLEARNED], weights), _statistic(values[zero_line], weights)
    return _share(unlearned, _target(values, before, weights), zero)


def _share(unlearned: Floats, target: Floats, zero: Floats) -> Floats | None:
    room = target - zero
    if np.quantile(room[1:], OUTSIDE) < LEAST_ROOM:
        return None
    room[room <= 0] = np.nan  # of the resamples 2.5 % at most
    share: Floats = (unlearned - zero) / room
    return share


def _target(values: Mapping[str, Values], before: Values | None, weights: Mapping[str, Floats]) -> Floats:
    attacked = _statistic(values[TARGET], weights)
    if before is None:
        return attacked
    return max(attacked, _statistic(before, weights), key=lambda drawn: float(drawn[0]))


def draws(sets: Values) -> dict[str, Floats]:
    """Set → [1 + R, n], how often each row is drawn: once each, then at random."""
    rng = np.random.default_rng(0)
    return {name: draw_rows(len(rows), rng) for name, rows in sets.items()}


def draw_rows(count: int, rng: np.random.Generator) -> Floats:
    """How often each row is drawn: [1 + R, count], once each, then at random."""
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return np.vstack([np.ones(count), drawn])


def _statistic(sets: Values, weights: Mapping[str, Floats]) -> Floats:
    """Mean over the rows of one set, or the area under the ROC curve between two: [1 + R]."""
    forget, times = np.asarray(sets[FORGET.key], dtype=np.float64), weights[FORGET.key]
    if UNSEEN not in sets:
        return weighted_mean(forget, times)
    unseen = np.asarray(sets[UNSEEN], dtype=np.float64)
    above = (unseen[:, None] > forget) + 0.5 * (unseen[:, None] == forget)  # [unseen, forget]
    area = weighted_mean(above.T, weights[UNSEEN])  # [1 + R, forget]
    mean: Floats = (area * times).sum(axis=1) / times.sum(axis=1)
    return mean


def weighted_mean(values: Floats, times: Floats) -> Floats:
    """Means over rows that are drawn so many times: [1 + R] of [n], [1 + R, m] of [m, n]."""
    summed: Floats = times @ values.T
    count = times.sum(axis=1)
    return summed / (count if summed.ndim == 1 else count[:, None])
