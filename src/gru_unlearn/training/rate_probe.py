"""The learning rate of a run, found before its first step: by that step itself, and forward passes along it.

Along the direction of the first step, with all that the method makes of it, the *reach* is the learning rate at which
the mean log-probability of the forget answers has fallen by ln 2 per token, or the retain loss risen by as much, which
comes first. A run whose steps all went that way would be there after so many steps of a rate of

    η = reach / steps,

and their number is a share of the steps that the way to what is enough should take.

The reach is an effect large enough to be seen beside rounding, whatever the weights' type, and beyond the flat stretch
that answers of probability near 1 begin with, where a single step of the right size shows nothing. It needs nothing to
be known of the objective: also what pushes activations or other answers is measured by what becomes of the answers.
"""

import math
from collections.abc import Callable

from gru_unlearn.common.numbers import shown
from gru_unlearn.errors import UserError
from gru_unlearn.training.gauge import Gauge, Reading
from gru_unlearn.training.rate_controller import RateState
from gru_unlearn.training.rate_search import LEAST, MOST, rate_of_effect
from gru_unlearn.training.trial_step import TrialStep

SHARE, BOLD_SHARE = 2 / 3, 1 / 3
"""Of the way, the steps to the reach, if all went as the first; the latter where they are turned in the metric of
retention, so that what must stay bears longer ones."""

EFFECT = math.log(2)
"""Nats per token at the reach."""

KNOWN = 0.05
"""Mean probability of answers below which a model hardly knows them."""

HARDLY_KNOWN = (
    "The model hardly knows the forget answers (mean probability {:.2g}): there may be nothing to forget. Are model, "
    "rows and chat template those that belong together?"
)


def find_rate(trial: TrialStep, gauge: Gauge, step: Callable[[], object], way: int, share: float) -> RateState:
    """Take the run's first step on trial and choose its learning rate.

    Args:
        trial: of the run's weights and optimizer.
        gauge: reads the model as it stands.
        step: takes the step.
        way: steps that the way to what is enough should take.
        share: of them, those to the reach.

    Raises:
        UserError: no learning rate moves the answers.
    """
    start = gauge.read()
    trial.take(step)
    if not trial.moved:
        raise UserError(_CANNOT.format("the first step moves no weight, or not to finite numbers"))

    def effect_at(rate: float) -> float:
        trial.go_to(rate)
        return _effect(gauge.read(), start)

    found = rate_of_effect(effect_at, EFFECT)
    if found is None:
        between = f"no learning rate from {LEAST:g} to {MOST:g} moves the forget answers along the first step"
        raise UserError(_CANNOT.format(between))
    chosen = rounded(found.rate / (share * way))
    return RateState(chosen=chosen, rate=chosen, reach=found.rate, way=way, start=start, last=start)


_CANNOT = "learning rate auto: {}: see whether the right weights are trained, or pass --learning-rate as a number"


def rounded(rate: float) -> float:
    """To two digits, so that it can be said and given again."""
    return float(f"{rate:.1e}")


def _effect(now: Reading, start: Reading) -> float:
    """NaN where anything is."""
    parts = (now.forgotten_since(start), now.harm_since(start))
    return math.nan if any(map(math.isnan, parts)) else max(parts)


def words(state: RateState) -> str:
    """What was chosen and why, in a line."""
    steps = round(state.reach / state.chosen)
    return (
        f"Learning rate {state.chosen:g}: {steps} steps along the direction of the first would halve the probability "
        f"of the forget answers, now {shown(state.start.probability)}, or cost the retain rows as much."
    )
