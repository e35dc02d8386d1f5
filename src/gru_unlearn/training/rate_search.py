"""How far along a direction an effect of a wanted size is reached: a search that asks for few effects."""

import math
from collections.abc import Callable
from typing import NamedTuple

LEAST, MOST = 1e-9, 1e3
"""Learning rates between which is searched."""

_STRIDE = 8.0  # the longest jump between two rates that are tried
_EXPONENT = 1.5  # effects grow between linearly and with the square of the rate
_CLOSE = 0.15  # of the wanted effect, that may be missed
_NARROW = 1.1  # between the ends of a bracket that needs no further cut


class Found(NamedTuple):
    """A rate, and the effect that was measured there."""

    rate: float
    effect: float


def rate_of_effect(effect_at: Callable[[float], float], wanted: float, start: float = 1e-3) -> Found | None:
    """The rate at which the effect is as wanted, to within a seventh; None where none between the limits has it.

    Args:
        effect_at: rate → effect, roughly growing. NaN and infinity count as far too much.
        wanted: above 0.
        start: first rate that is tried.
    """
    short: Found | None = None
    far: Found | None = None
    rate = start
    while LEAST <= rate <= MOST:
        effect = effect_at(rate)
        here = Found(rate, effect if math.isfinite(effect) else math.inf)
        if abs(here.effect / wanted - 1) <= _CLOSE:
            return here
        if here.effect < wanted:
            short = here
        else:
            far = here
        if short and far and far.rate < _NARROW * short.rate:
            return short
        rate = _next(here, short, far, wanted)
    return None


def _next(here: Found, short: Found | None, far: Found | None, wanted: float) -> float:
    if short is None or far is None:
        return here.rate * _jump(here.effect, wanted)
    share = 0.5
    if short.effect > 0 and math.isfinite(far.effect):  # effects are lines where both axes are logarithms
        share = math.log(wanted / short.effect) / math.log(far.effect / short.effect)
    share = min(max(share, 0.1), 0.9)
    return float(short.rate ** (1 - share) * far.rate**share)


def _jump(effect: float, wanted: float) -> float:
    """Factor to the next rate while the wanted effect lies beyond all that were tried."""
    if effect <= 0:
        return _STRIDE
    if not math.isfinite(effect):
        return 1 / _STRIDE
    factor = (wanted / effect) ** (1 / _EXPONENT)
    if effect < wanted:
        return min(max(factor, 1.5), _STRIDE)
    return max(min(factor, 1 / 1.5), 1 / _STRIDE)
