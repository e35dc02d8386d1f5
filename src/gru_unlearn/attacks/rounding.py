"""Weights rounded to few bits: what an unlearned model is when someone makes it smaller."""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from gru_unlearn.attacks.battery import Battery
from gru_unlearn.attacks.probing import Probed, Variants, probe
from gru_unlearn.evaluation import Missing
from gru_unlearn.evaluation.quantization import round_to_normal_float, round_weights, rounder
from gru_unlearn.models.subject import Subject

NF4 = "4 bits, NF4"
GRIDS: dict[str, Callable[[Tensor], Tensor]] = {
    "8 bits": rounder(8),
    "4 bits": rounder(4, 64),
    NF4: round_to_normal_float,
}
"""8 bits by row; 4 bits in groups of 64 neighbours, on an even grid and on that of NF4."""


def quantization(battery: Battery) -> Variants:
    """Rounding to each of these grids; of the 4-bit ones a quick attack takes what is loaded most."""
    names = list(GRIDS) if battery.extent.thorough else [NF4]
    return {name: partial(_quantized, battery, GRIDS[name]) for name in names}


def _quantized(battery: Battery, rounded: Callable[[Tensor], Tensor], subject: Subject) -> Probed:
    model = subject.load("float32" if battery.computes_narrow else None)
    if not round_weights(model, rounded):
        raise Missing("the model has no linear layers that could be rounded")
    if battery.computes_narrow:
        model.bfloat16()
    return probe(battery, subject, model, range(len(battery.forget)))
