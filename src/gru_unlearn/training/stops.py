"""Why a run stops before its last step: enough is forgotten, too much of the rest is lost, or nothing moves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from transformers import TrainerCallback

from gru_unlearn.common.numbers import shown
from gru_unlearn.common.processes import decided_by_first
from gru_unlearn.training.aim import ENOUGH, Aim, aim_of, score
from gru_unlearn.training.config import UnlearningConfig
from gru_unlearn.training.course import Evaluated, Kept, course_of, least_kept, steps_to

Why = Literal["forgotten", "retention", "no_progress"]

PROGRESS = 0.02
"""Share by which the forget probability must have fallen, to have moved at all."""

OTHER_RATE = 3
"""By how much another learning rate is worth a try."""

PULLS_ON = ("ga", "graddiff")
"""Objectives whose gradient does not fade with the probability of what must go."""

BETTER_WITHIN = 2
"""Evaluations beyond enough within which a model must turn up that is better than all before."""

AS_LONG = 2
"""Times the steps to enough: so many a run takes at most, if it goes on to the goal."""

LABELS = {"held_out": "held-out rows", "retain": "retain rows"}


class Stop(NamedTuple):
    """Why a run stops, and where."""

    why: Why
    step: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Rules:
    """When to stop."""

    aim: Aim | None
    """None: nothing is ever enough"""
    limit: float
    """share of their probability that rows which must stay have to keep; 0: none"""
    patience: int
    """evaluations that may pass without progress; 0: any number"""
    warm: int
    """steps of warm-up, in which little moves"""
    learning_rate: float | None
    """None: the run finds it by itself, and another number would be no better"""
    objective: str

    def keeps(self, kept: Kept | None) -> bool:
        """Whether this much is within the limit."""
        return kept is None or kept.share >= self.limit


def rules_of(args: UnlearningConfig, steps: int) -> Rules:
    """As the settings of a run of so many steps say."""
    return Rules(
        aim=aim_of(args),
        limit=args.resolved_stop_below_kept,
        patience=args.resolved_stop_without_progress,
        warm=args.get_warmup_steps(steps),
        learning_rate=_rate_of_person(args),
        objective=args.objective,
    )


def _rate_of_person(args: UnlearningConfig) -> float | None:
    if args.on_its_own:
        return None
    return float(args.learning_rate)


def why_to_stop(course: Sequence[Evaluated], rules: Rules) -> Stop | None:
    """What the evaluations so far come to; None: go on."""
    ends = (_has_nothing_to_do, _forgotten, _gets_worse, _takes_long, _loses, _stalls)
    found = (end(course, rules) for end in ends)
    return next((stop for stop in found if stop is not None), None)


def _has_nothing_to_do(course: Sequence[Evaluated], rules: Rules) -> Stop | None:
    """Before its first step: the model says no more than enough allows. Steps would only leave a trace."""
    now, aim = course[-1], rules.aim
    if now.step > 0 or aim is None or now.said != 0 or not aim.has_enough(now):
        return None
    return Stop(
        "forgotten",
        now.step,
        f"there is nothing to forget: before the first step the forget probability is {shown(now.forget)}, at or below "
        f"{shown(aim.enough)}, and nothing comes word for word",
    )


def _forgotten(course: Sequence[Evaluated], rules: Rules) -> Stop | None:
    """Enough, and within the limit: what is gone at the cost of the rest is no end to stop at."""
    now, aim = course[-1], rules.aim
    if aim is None or not rules.keeps(least_kept(course)) or not aim.is_reached(now):
        return None
    reached = f"the forget probability is {shown(now.forget)}, at or below the goal of {shown(aim.goal)}"
    if now.said is None:
        return Stop("forgotten", now.step, reached)  # whether that is enough, nobody knows who counted nothing
    if now.said == 0:
        return Stop("forgotten", now.step, f"enough is forgotten: {reached}, and nothing comes word for word")
    left = f"{reached}, though {now.said:.1%} of the rows still come word for word"
    return Stop("forgotten", now.step, f"{left}: so far below, going on would leave a trace of its own")


def _gets_worse(course: Sequence[Evaluated], rules: Rules) -> Stop | None:
    """Enough is forgotten, and on the way from there to the goal the last models are worse than one before them."""
    aim = rules.aim
    if aim is None or len(course) <= BETTER_WITHIN:
        return None
    scores = _scores(course, rules)
    best = max(scores[:-BETTER_WITHIN])
    if best < ENOUGH or best < max(scores[-BETTER_WITHIN:]):
        return None
    going_on = _enough_at(course[scores.index(best)], aim)
    return Stop("forgotten", course[-1].step, f"{going_on} costs more of the rest than it is worth")


def _takes_long(course: Sequence[Evaluated], rules: Rules) -> Stop | None:
    """Enough is forgotten, and the way from there to the goal has taken as many steps as that to enough."""
    aim, now = rules.aim, course[-1]
    good = [point for point, value in zip(course, _scores(course, rules), strict=True) if value >= ENOUGH]
    first = next((point for point in good if point.step > 0), None)
    if aim is None or first is None or now.step < AS_LONG * first.step:
        return None
    return Stop("forgotten", now.step, f"{_enough_at(first, aim)} takes longer than the way until then")


def _enough_at(point: Evaluated, aim: Aim) -> str:
    """The beginning of a sentence that goes on with what speaks against going on."""
    return (
        f"enough is forgotten: at step {point.step} the forget probability was {shown(point.forget)}, at or below "
        f"{shown(aim.enough)}, and going on to {shown(aim.goal)}"
    )


def _scores(course: Sequence[Evaluated], rules: Rules) -> list[float]:
    """How good the model of each evaluation was; 0 where it had lost too much."""
    return [score(course[:end], rules.aim, rules.limit) or 0.0 for end in range(1, len(course) + 1)]


def _loses(course: Sequence[Evaluated], rules: Rules) -> Stop | None:
    """Twice in a row below the limit, because a run may recover; or once with twice the loss that it allows."""
    kept, before = least_kept(course), None
    if len(course) > 1:
        before = least_kept(course, -2)
    if kept is None or rules.keeps(kept):
        return None
    if rules.keeps(before) and kept.share >= 1 - 2 * (1 - rules.limit):
        return None
    return Stop(
        "retention",
        course[-1].step,
        f"{LABELS[kept.name]} have kept {kept.share:.3f} of their probability, below the limit of {rules.limit:g}; "
        f"try {_rate(rules, 1 / OTHER_RATE)}more retain rows, or another limit (--stop-below-kept)",
    )


def _stalls(course: Sequence[Evaluated], rules: Rules) -> Stop | None:
    """The lowest forget probability of the last evaluations is hardly below that of those before."""
    earlier, recent = course[: -rules.patience], course[-rules.patience :]
    if not rules.patience or not earlier or earlier[-1].step < rules.warm:
        return None
    lowest = min(point.forget for point in recent)
    if lowest <= (1 - PROGRESS) * min(point.forget for point in earlier):
        return None
    return Stop(
        "no_progress",
        course[-1].step,
        f"no progress: over the last {rules.patience} evaluations ({course[-1].step - earlier[-1].step} steps) the "
        f"forget probability has not fallen by {PROGRESS:.0%}, it is {shown(course[-1].forget)}; try "
        f"{_rate(rules, OTHER_RATE)}another --objective{_pulling_on(rules)}",
    )


def _rate(rules: Rules, times: float) -> str:
    """The first of several ways out, where another learning rate is worth a try."""
    if rules.learning_rate is None:
        return ""
    return f"--learning-rate {rules.learning_rate * times:.1g}, or "


def _pulling_on(rules: Rules) -> str:
    if rules.objective in PULLS_ON:
        return ""
    return " (ga pulls on where the pull of others fades)"


def is_near(course: Sequence[Evaluated], aim: Aim, step: int, every: int) -> bool:
    """Whether what is next on the way down, enough or the goal, is reached by this step at the present pace, so that
    waiting for the next evaluation, which comes ``every`` so many steps, would go beyond it."""
    ahead = None
    if course:
        ahead = steps_to(course, aim.next_below(course[-1].forget))
    if ahead is None or ahead >= every:
        return False
    return step >= course[-1].step + max(math.ceil(ahead), math.ceil(every / 4))


class StopCallback(TrainerCallback):
    """Stops a run at an evaluation, in all processes together.

    Attributes:
        found: why it stops, as soon as it does.
    """

    def __init__(self) -> None:
        self.found: Stop | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A run that goes on finds its reason again."""
        self.found = None

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """On its own, a run looks where it expects enough to be forgotten, and where it expects the goal."""
        aim = aim_of(args)
        if args.on_its_own and aim is not None and args.eval_strategy == "steps":
            course = course_of(state.log_history)
            control.should_evaluate |= is_near(course, aim, state.global_step, state.eval_steps)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop where there is a reason."""
        if "eval_forget_prob" not in kwargs["metrics"]:
            return
        course, rules = course_of(state.log_history), rules_of(args, state.max_steps)
        found = decided_by_first(lambda: why_to_stop(course, rules))
        if found is not None:
            self.found, control.should_training_stop = found, True
