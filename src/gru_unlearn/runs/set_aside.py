"""Held-out rows that a run sets aside by itself, so that there is a witness whom no step saw."""

from collections.abc import Sequence
from typing import NamedTuple

from gru_unlearn.common.sequences import evenly_spread
from gru_unlearn.data import Record, canonical

ENOUGH = 40
"""Retain rows from which on some can be spared."""
FEWEST, MOST = 16, 64


class Parted(NamedTuple):
    """Retain rows in two: no row of one says the same as a row of the other."""

    retain: list[Record]
    held_out: list[Record]


def part_off(retain: Sequence[Record]) -> Parted:
    """A tenth of the rows, evenly spread, at least :data:`FEWEST` and at most :data:`MOST` of them, is held out; none
    where there are not :data:`ENOUGH` different ones."""
    different = dict.fromkeys(map(canonical, retain))
    if len(different) < ENOUGH:
        return Parted(list(retain), [])
    count = min(MOST, max(FEWEST, len(different) // 10))
    chosen = set(evenly_spread(list(different), count))
    kept = [record for record in retain if canonical(record) not in chosen]
    held_out = {canonical(record): record for record in retain if canonical(record) in chosen}
    return Parted(kept, list(held_out.values()))
