"""How far down a run pushes the forget probability, and which of the models on its way is the best one."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from gru_unlearn.training.config import UnlearningConfig
from gru_unlearn.training.course import Evaluated, least_kept

FAR_ENOUGH = 0.85
"""Times what is enough, or the goal: so far a run goes on where rows still come word for word there."""

FURTHER = 0.02
"""Share of the rest that may be lost on the whole way from enough to the goal."""

SOME_SAID, ENOUGH, NONE_SAID = 2.0, 3.0, 4.0
"""Scores from which on a model is at what is enough: where rows still come word for word, where they do though it is
far enough below, and where none does."""


class Aim(NamedTuple):
    """Forget probabilities."""

    enough: float
    """at or below which enough is forgotten"""
    goal: float
    """to which a run goes on as long as that costs little of the rest; the same, or below"""

    def has_enough(self, now: Evaluated) -> bool:
        """Whether enough is forgotten, and nothing comes word for word; or so much that going on would leave a trace
        of its own."""
        return _is_at(self.enough, now)

    def is_reached(self, now: Evaluated) -> bool:
        """The same at the goal."""
        return _is_at(self.goal, now)

    def next_below(self, forget: float) -> float:
        """What a run that is here comes to next."""
        return self.goal if forget <= self.enough else self.enough

    def way_below(self, forget: float) -> float:
        """Share of the way from enough to the goal, by factors."""
        if forget <= self.goal:
            return 1.0
        return max(math.log(self.enough / forget) / math.log(self.enough / self.goal), 0.0)


def aim_of(args: UnlearningConfig) -> Aim | None:
    """As the settings say; None: a run goes as far as its steps take it."""
    enough = args.stop_at_forget_prob
    return None if enough is None else Aim(enough, enough * (args.go_on_to or 1.0))


def score(course: Sequence[Evaluated], aim: Aim | None, limit: float) -> float | None:
    """How good the model of the last evaluation is, the higher the better; None: it has lost too much of the rest.

    Below 1 by what is forgotten; where that is enough, from 2, 3 or 4 on by what is kept, and by how far it is beyond.

    Args:
        course: all evaluations up to this one.
        aim: of the run; None: no model ever forgot enough.
        limit: share of their probability that rows which must stay have to keep.
    """
    now, kept = course[-1], least_kept(course)
    share = 1.0 if kept is None else kept.share
    if share < limit:
        return None
    if aim is None or now.forget > aim.enough:
        return 1 - now.forget
    base = SOME_SAID
    if aim.has_enough(now):
        base = ENOUGH
    if not now.said:
        base = NONE_SAID
    return base + share + FURTHER * aim.way_below(now.forget)


def _is_at(place: float, now: Evaluated) -> bool:
    return now.forget <= place and (not now.said or now.forget <= FAR_ENOUGH * place)
