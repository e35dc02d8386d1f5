"""How much is tried: everything that changes nothing but time, where nobody says it.

A large model on a processor gets fewer rows, steps and samples or none, so that a whole attack ends in a quarter of an
hour on two cores, and a quick one in four minutes (135 million weights).
"""

from dataclasses import dataclass, replace
from typing import Any

from gru_unlearn.attacks.attack_request import AttackRequest


@dataclass(frozen=True, slots=True)
class Extent:
    """Of each attack."""

    max_rows: int
    """forget rows"""
    relearning_steps: int
    relearning_batch: int
    """rows a step"""
    relearning_rates: tuple[float, ...]
    """multiples of the learning rate"""
    adapter_rates: tuple[float, ...]
    """the same for adapters, which need more"""
    samples: int
    """0: none are drawn, unless somebody asks for some"""
    temperature: tuple[float, ...]
    thorough: bool
    """every variant of an attack, and not only those that are the strongest as a rule"""
    hurries: bool = False
    """fewer forms of each, looked at less often"""


WHOLE = Extent(100, 60, 8, (1.0, 3.0, 10.0), (10.0, 30.0), 64, (0.7, 1.0, 1.3), True)
WHOLE_IN_TIME = replace(
    WHOLE,
    max_rows=12,
    relearning_steps=6,
    relearning_batch=4,
    adapter_rates=(10.0,),
    samples=4,
    temperature=(1.0,),
    hurries=True,
)
QUICK = Extent(40, 20, 8, (3.0, 10.0), (), 16, (1.0,), False)
QUICK_IN_TIME = replace(QUICK, max_rows=12, relearning_steps=5, relearning_batch=4, samples=0, hurries=True)


def extent_of(request: AttackRequest, *, is_slow: bool) -> Extent:
    """What flags say, and otherwise what there is time for; ``is_slow``: a large model on a processor."""
    extents = (QUICK, QUICK_IN_TIME) if request.quick else (WHOLE, WHOLE_IN_TIME)
    asked: dict[str, Any] = {
        "max_rows": request.max_rows,
        "relearning_steps": request.relearning_steps,
        "relearning_rates": request.relearning_rates,
        "samples": request.samples,
        "temperature": request.temperature,
    }
    return replace(extents[is_slow], **{name: value for name, value in asked.items() if value})
