"""Weights rounded to few bits: what an unlearned model is when someone makes it smaller."""

from functools import partial

from gru_unlearn.attacks.battery import Battery
from gru_unlearn.attacks.probing import Probed, Variants, probe
from gru_unlearn.evaluation import Missing
from gru_unlearn.evaluation.quantization import quantize_weights
from gru_unlearn.models.subject import Subject

GRIDS: dict[str, tuple[int, int | None]] = {"8 bits": (8, None), "4 bits": (4, 64)}
"""Bits, and how many weights share a scale (None: a row)."""


def quantization(battery: Battery) -> Variants:
    """Rounding to 8 bits by row and to 4 bits in groups of 64."""
    return {name: partial(_quantized, battery, *grid) for name, grid in GRIDS.items()}


def _quantized(battery: Battery, bits: int, group_size: int | None, subject: Subject) -> Probed:
    model = subject.load()
    if not quantize_weights(model, bits, group_size):
        raise Missing("the model has no linear layers that could be rounded")
    return probe(battery, subject, model, range(len(battery.forget)))
