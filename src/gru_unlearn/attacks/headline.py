"""What all attacks come to, in two numbers that can be compared: how much the strongest brought back, and how dear it
is to win back half.

Rows are drawn jointly for all attacks and models. The largest of many shares is large partly by chance, so the lower
end of its interval holds for all attacks together: their deviations in the resamples, each in units of its spread, are
compared by the largest of them (Westfall and Young, Resampling-Based Multiple Testing, 1993, chapter 2).
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from gru_unlearn.attacks.battery import TARGET, UNLEARNED
from gru_unlearn.attacks.membership import AUC
from gru_unlearn.attacks.probing import PROBABILITY
from gru_unlearn.attacks.recovery import (
    LEAST_ROOM,
    NO_ROOM,
    NO_ZERO_LINE,
    ONE_ROW,
    OUTSIDE,
    Floats,
    Values,
    draw_rows,
    drawn_shares,
    weighted_mean,
    zero_line_of,
)
from gru_unlearn.reporting.staying import TOLD_APART
from gru_unlearn.results.attack_summary import (
    AttackedRows,
    AttackPart,
    Attempt,
    Estimate,
    Headline,
    Relearnt,
    ZeroLine,
)
from gru_unlearn.results.row_kinds import FORGET

TELLING = (AUC, TOLD_APART)
"""Measures of what can be told from outside or inside, without bringing an answer out."""

NOT_RELEARNT = "not relearnt"
TOO_SHORT = "neither the unlearned model nor the one to compare with won half back: more --relearning-steps"
NONE_READ = "no attack could be read between target and a model that never saw the rows"


class Drawn(NamedTuple):
    """Which rows each resample draws, for all attacks alike."""

    numbers: Sequence[int]
    """of the forget rows under attack"""
    times: Floats
    """[1 + R, rows]"""

    def of(self, numbers: Sequence[int]) -> Floats:
        """For some of the rows: [1 + R, some]; a resample without any of them takes each once."""
        place = {number: place for place, number in enumerate(self.numbers)}
        times = self.times[:, [place[number] for number in numbers]]
        times[times.sum(axis=1) == 0] = 1.0
        return times


def headline_of(parts: Sequence[AttackPart], before: Sequence[AttackedRows], numbers: Sequence[int]) -> Headline:
    """The two numbers of all attacks.

    Args:
        parts: what the attacks found.
        before: what was there without any attack.
        numbers: the forget rows under attack.
    """
    drawn = Drawn(numbers, draw_rows(len(numbers), np.random.default_rng(0)))
    attacked = [rows for part in parts for rows in part.rows]
    relearnt = [rows for part in parts for rows in part.relearnt]
    known = next((rows for rows in before if rows.measure == PROBABILITY), None)
    return Headline(
        recovered_share=recovered_share(attacked, before, drawn),
        relearning_cost=relearning_cost(relearnt, known, drawn),
    )


# --- how much comes back ---------------------------------------------------------------------------------------------


def recovered_share(attacked: Sequence[AttackedRows], before: Sequence[AttackedRows], drawn: Drawn) -> Estimate:
    """The largest share that any attack brings back, by any measure; what only tells rows apart brings nothing back."""
    attacked = [rows for rows in attacked if rows.measure not in TELLING]
    if not attacked:
        return Estimate(note=NONE_READ)
    zero_line = zero_line_of(attacked[0].values)
    if zero_line is None:
        return Estimate(note=NO_ZERO_LINE)
    if len(drawn.numbers) < 2:
        return Estimate(note=ONE_ROW)
    as_it_was = {rows.measure: rows for rows in before}
    shares = {}
    for rows in attacked:
        known = _of_target(as_it_was.get(rows.measure), rows.numbers)
        found = drawn_shares(rows.values, zero_line, known, {FORGET.key: drawn.of(rows.numbers)})
        if found is not None:
            shares[rows.name, rows.measure] = found
    if not shares:
        return Estimate(note=NONE_READ)
    table = np.stack(list(shares.values()))  # [attacks, 1 + R]
    value, interval = largest(table)
    strongest, _ = list(shares)[int(np.argmax(table[:, 0]))]
    return Estimate(value=value, interval=interval, by=strongest)


def _of_target(rows: AttackedRows | None, numbers: Sequence[int]) -> Values | None:
    """The target's values of these rows without an attack."""
    if rows is None:
        return None
    known = dict(zip(rows.numbers, rows.values[TARGET][FORGET.key], strict=True))
    return {FORGET.key: [known[number] for number in numbers]}


# --- what it costs ---------------------------------------------------------------------------------------------------


class _Cost(NamedTuple):
    """At one learning rate, of all rows and of each resample: [1 + R]."""

    by: Attempt
    multiple: Floats
    unlearned_ends: bool
    """whether it came to half, with all rows"""
    other_ends: bool
    """the same of the model to compare with"""


def relearning_cost(relearnt: Sequence[Relearnt], before: AttackedRows | None, drawn: Drawn) -> Estimate:
    """Steps until half is won back on the rows that are trained on, as a multiple of those of the retain model, else
    the base, on the same.

    Half is midway between that model and the target as they were. Of several learning rates and ways to train, the one
    that is cheapest for the unlearned model beside it counts. Where a copy does not come so far, all
    steps that were taken count as its own, and the number is a bound.
    """
    if not relearnt or before is None:
        return Estimate(note=NOT_RELEARNT)
    zero_line = zero_line_of(before.values)
    if zero_line is None:
        return Estimate(note=NO_ZERO_LINE)
    numbers = relearnt[0].numbers
    if len(numbers) < 2:
        return Estimate(note=ONE_ROW)
    times = drawn.of(numbers)
    half = _half(before, zero_line, numbers, times)
    if half is None:
        return Estimate(note=NO_ROOM)
    costs = [_cost(rows, zero_line, half, times) for rows in relearnt]
    read = [cost for cost in costs if cost.unlearned_ends or cost.other_ends]
    if not read:
        return Estimate(note=TOO_SHORT)
    cheapest = min(read, key=lambda cost: float(cost.multiple[0]))
    value, interval = least(np.stack([cost.multiple for cost in read]))
    return Estimate(value=value, interval=interval, bound=_bound(cheapest, read), by=cheapest.by.name)


def _half(before: AttackedRows, zero_line: ZeroLine, numbers: Sequence[int], times: Floats) -> Floats | None:
    """Midway between zero line and target: [1 + R]; None where they hardly differ."""
    ends = []
    for model in (zero_line, TARGET):
        known = dict(zip(before.numbers, before.values[model][FORGET.key], strict=True))
        ends.append(weighted_mean(np.asarray([known[number] for number in numbers]), times))
    if np.quantile((ends[1] - ends[0])[1:], OUTSIDE) < LEAST_ROOM:
        return None
    half: Floats = (ends[0] + ends[1]) / 2
    return half


def _cost(rows: Relearnt, zero_line: ZeroLine, half: Floats, times: Floats) -> _Cost:
    most = float(rows.steps[-1])
    taken = {}
    for model in (UNLEARNED, zero_line):
        taken[model] = steps_to(half, weighted_mean(np.asarray(rows.paths[model]), times), rows.steps)
    capped = {model: np.minimum(steps, most) for model, steps in taken.items()}
    soonest = 1 / (2 * most)  # the other model of a resample may be there at once
    multiple = capped[UNLEARNED] / np.maximum(capped[zero_line], soonest)
    ends = {model: bool(steps[0] <= most) for model, steps in taken.items()}
    return _Cost(rows, multiple, ends[UNLEARNED], ends[zero_line])


def steps_to(level: Floats, path: Floats, steps: Sequence[int]) -> Floats:
    """After how many steps a path first comes to a level, between two points of it in proportion; infinity: never.

    Args:
        level: [R].
        path: [R, points].
        steps: at the points.
    """
    there = path >= level[:, None]
    first = there.argmax(axis=1)
    rows, past = np.arange(len(path)), np.maximum(first, 1)
    low, high = path[rows, past - 1], path[rows, past]
    with np.errstate(divide="ignore", invalid="ignore"):
        part = (level - low) / (high - low)
    at = np.asarray(steps, dtype=np.float64)
    found = np.where(first == 0, at[0], at[past - 1] + part * (at[past] - at[past - 1]))
    crossing: Floats = np.where(there.any(axis=1), found, np.inf)
    return crossing


def _bound(cheapest: _Cost, read: Sequence[_Cost]) -> Literal["", "at least", "at most"]:
    """Whether the least multiple of all is one, or all that can be told of it."""
    if not all(cost.other_ends for cost in read):
        return "at most"
    return "" if cheapest.unlearned_ends else "at least"


# --- the largest of several ------------------------------------------------------------------------------------------


def largest(drawn: Floats) -> tuple[float, tuple[float, float]]:
    """The largest of several numbers, with its 95 % interval.

    No more than the upper end of any number's own interval, for one of them is the truly largest. No less than the
    lower ends that hold for all of them together: the largest is large partly by chance, the more the more there are.

    Args:
        drawn: [numbers, 1 + R], with all rows and of each resample; NaN where a resample has none.
    """
    found, resampled = drawn[:, 0], drawn[:, 1:]
    spread = np.nanstd(resampled, axis=1)
    safe = np.where(spread > 0, spread, 1.0)[:, None]
    farthest = np.nanmax((resampled - found[:, None]) / safe, axis=0)  # [R], of all numbers
    low = np.max(found - max(0.0, float(np.quantile(farthest, 1 - OUTSIDE))) * spread)
    high = np.max(np.nanquantile(resampled, 1 - OUTSIDE, axis=1))
    value = float(found.max())
    return value, (float(low), max(float(high), value))


def least(drawn: Floats) -> tuple[float, tuple[float, float]]:
    """The least of several, likewise."""
    value, (low, high) = largest(-drawn)
    return 0.0 - value, (0.0 - high, 0.0 - low)  # no -0
