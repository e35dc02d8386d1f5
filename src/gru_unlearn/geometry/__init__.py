"""The closed form of gradient rectified unlearning. This floor imports torch and nothing else.

Reading order: :mod:`closed_form` (one projection), :mod:`rectifier` (the projection in a training loop).
"""

from gru_unlearn.geometry.closed_form import Conflict, inner_product, measure_conflict, remove_conflict_
from gru_unlearn.geometry.rectifier import GradientRectifier, StepTelemetry

__all__ = [
    "Conflict",
    "GradientRectifier",
    "StepTelemetry",
    "inner_product",
    "measure_conflict",
    "remove_conflict_",
]
