"""How far down a run pushes the forget probability, and which of the models on its way is the best one."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from gru_unlearn.training.config import UnlearningConfig
from gru_unlearn.training.course import Evaluated, least_kept

BELOW = 0.85
"""Times what is enough: so far a run that should stop there goes on for rows that still come word for word."""

FAR_BELOW, FAR_ON_TOP = 0.5, 0.22
"""And one with a goal below that: to the first share of what is enough, but by no more than the second share of the way
from certainty to enough on top. Not much lower, a verdict says that it went too far."""

FURTHER = 0.02
"""Share of the rest that may be lost on the whole way from enough to the goal."""

SOME_SAID, ENOUGH, NONE_SAID = 2.0, 5.0, 8.0
"""Scores from which on a model is at what is enough: where rows still come word for word, where they do though it is
too far below to go on for them, and where none does."""


class Aim(NamedTuple):
    """Forget probabilities."""

    enough: float
    """at or below which enough is forgotten"""
    goal: float
    """to which a run goes on as long as that costs little of the rest; the same, or below"""

    @property
    def least(self) -> float:
        """below which a run goes for no row, though it comes word for word"""
        if self.goal == self.enough:
            return BELOW * self.enough
        return min(self.goal, self.enough * share_beyond(self.enough, FAR_BELOW, FAR_ON_TOP))

    def is_for_rows(self, now: Evaluated) -> bool:
        """Whether going on is worth it for rows alone that still come word for word, not yet a trace of its own."""
        return bool(now.said) and now.forget > self.least

    def has_enough(self, now: Evaluated) -> bool:
        """Whether enough is forgotten, and no row asks for more."""
        return now.forget <= self.enough and not self.is_for_rows(now)

    def is_reached(self, now: Evaluated) -> bool:
        """The same at the goal."""
        return now.forget <= self.goal and not self.is_for_rows(now)

    def next_below(self, forget: float) -> float:
        """What a run that is here comes to next."""
        return self.goal if forget <= self.enough else self.enough

    def way_below(self, forget: float) -> float:
        """Share of the way from enough to the goal, by factors."""
        if forget <= self.goal:
            return 1.0
        return max(math.log(self.enough / forget) / math.log(self.enough / self.goal), 0.0)


def share_beyond(enough: float, share: float, on_top: float) -> float:
    """This share of what is enough; or more, lest it lie further beyond than this share of the way from certainty to
    enough."""
    return max(share, 1 - on_top * (1 - enough) / enough)


def aim_of(args: UnlearningConfig) -> Aim | None:
    """As the settings say; None: a run goes as far as its steps take it."""
    enough = args.stop_at_forget_prob
    return None if enough is None else Aim(enough, enough * (args.go_on_to or 1.0))


def score(course: Sequence[Evaluated], aim: Aim | None, limit: float) -> float | None:
    """How good the model of the last evaluation is, the higher the better; None: it has lost too much of the rest.

    Up to 1 by what is forgotten; where that is enough, from 2, 5 or 8 on by what is kept, by how far it is beyond, and
    by how few rows are still said.

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
    left = min(share, 1.0)  # more than before is no gain
    silent = 1.0 - (now.said or 0.0)
    return base + left + silent + FURTHER * aim.way_below(now.forget)
