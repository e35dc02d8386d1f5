"""How often a run on its own evaluates, and on how many rows: often enough not to go beyond the mark, and for a tenth
of its work at most.

Work is counted in passes of rows, not in seconds, so that a run that goes on, or is repeated, evaluates where it did.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from gru_unlearn.training.run_cost import READ

SHARE = 0.1
"""Of the work of steps, what evaluations may take."""
SUITE_ROW = 3 * READ
"""Of a suite's row, which is asked for its answer word for word, too."""

SOON = 6
"""Steps between two evaluations, as far as enough rows can be had for their price."""
LATE = 10
"""Steps after which an evaluation comes whatever it costs: much can be lost in as many."""
FEWEST, MOST = 16, 400
"""Rows of a set that are evaluated."""


class Schedule(NamedTuple):
    """Evaluations along a run."""

    rows: int | None
    """of each set, at most; None: all"""
    steps: int
    """between two of them"""


def schedule_for(
    sets: Sequence[int], rows_of_step: int, *, rows: int | None = 0, steps: int | None = None, suite_rows: int = 0
) -> Schedule:
    """The schedule of a run.

    Args:
        sets: how many rows each set has.
        rows_of_step: passes of single rows in a step of one process.
        rows: as set (None: all); 0: to be chosen.
        steps: as set; None: to be chosen.
        suite_rows: of a suite that is measured at each evaluation, too.
    """
    suite = suite_rows * SUITE_ROW
    allowed = SHARE * rows_of_step
    if rows == 0:
        affordable = (steps or SOON) * allowed - suite
        rows = next((most for most in range(MOST, FEWEST, -1) if _work(sets, most) <= affordable), FEWEST)
    if steps is None:
        steps = max(1, math.ceil((_work(sets, rows) + suite) / allowed))
        if not suite_rows:
            steps = min(steps, LATE)
    return Schedule(rows, steps)


def _work(sets: Sequence[int], most: int | None) -> float:
    return READ * sum(size if most is None else min(size, most) for size in sets)
