"""A run's evaluations so far, read off its log: what was forgotten, what was kept, and where that leads.

All that a run decides along the way it decides from these, never from a clock: so it decides alike when it goes on
after an interruption.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gru_unlearn.training.gauge import log_odds

GUARDED = ("held_out", "retain")
"""Sets that must stay, by their names in a run's numbers."""


WORD_FOR_WORD = "forget_word_for_word"
"""Name of a number of an evaluation: the share of the forget rows that are answered, or continued, word for word."""


class Evaluated(NamedTuple):
    """Mean answer probabilities at a step."""

    step: int
    forget: float
    kept: Mapping[str, float]
    """name of a set that must stay → its own"""
    said: float | None = None
    """share of the forget rows that still come word for word, where that was counted"""


def course_of(log: Sequence[Mapping[str, float]]) -> list[Evaluated]:
    """The evaluations of a run in order; of two at the same step the later one."""
    found = {}
    for row in log:
        if "eval_forget_prob" not in row:
            continue
        kept = {name: row[f"eval_{name}_prob"] for name in GUARDED if f"eval_{name}_prob" in row}
        said = row.get(f"eval_{WORD_FOR_WORD}")
        found[int(row["step"])] = Evaluated(int(row["step"]), row["eval_forget_prob"], kept, said)
    return list(found.values())


class Kept(NamedTuple):
    """Of the sets that must stay, the one of which least is left."""

    name: str
    share: float
    """of its probability before the first step"""


def least_kept(course: Sequence[Evaluated], at: int = -1) -> Kept | None:
    """At one of the evaluations; None where there is nothing to compare: no such set, or nothing was there before."""
    if not course or course[0].step != 0:
        return None
    before = {name: value for name, value in course[0].kept.items() if value > 0}
    shares = [Kept(name, course[at].kept[name] / value) for name, value in before.items() if name in course[at].kept]
    return min(shares, key=lambda kept: kept.share, default=None)


def steps_to(course: Sequence[Evaluated], goal: float) -> float | None:
    """Steps from the last evaluation until the forget probability is at the goal, at the pace between the last two.

    The pace is that of the log-odds: small probabilities fall by factors, and those near 1 hardly move at first.
    None: it does not fall.
    """
    if len(course) < 2 or goal <= 0:
        return None
    before, now = course[-2:]
    if now.forget <= goal:
        return 0.0
    pace = (log_odds(before.forget) - log_odds(now.forget)) / (now.step - before.step)
    if pace <= 0:
        return None
    return (log_odds(now.forget) - log_odds(goal)) / pace
