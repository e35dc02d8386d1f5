"""The closed form of gradient rectified unlearning and its family. This floor imports torch, and scipy for one solver.

Reading order: :mod:`closed_form` (one projection), :mod:`rules` (it and its alternatives), :mod:`blocks` (block by
block), :mod:`cone` (several retain gradients), :mod:`family` (what each rule can do), :mod:`rectification` (all choices
as a value), :mod:`preconditioner` (what Adam knows of each number), :mod:`retain_metric` (where displacements are
turned to before), :mod:`projections` (what they do to vectors), :mod:`direction`, :mod:`named_directions` and
:mod:`retain_memory` (where r is kept),
:mod:`gradient_window` (between two steps), :mod:`attachment` (hooks on both), :mod:`loss_scale` (float16),
:mod:`rectifier` (in a training loop), :mod:`telemetry` (what it did), :mod:`late_warning` (what a loop should hear of);
:mod:`products` is the arithmetic under all of them, :mod:`sharding` what FSDP2 asks for.
"""

from gru_unlearn.geometry.blocks import GRANULARITIES
from gru_unlearn.geometry.closed_form import Conflict, measure_conflict, remove_conflict_
from gru_unlearn.geometry.products import inner_product
from gru_unlearn.geometry.rectification import (
    NAMES,
    RECOMMENDED,
    Rectification,
    default_gradient_weight,
    parse_rectification,
)
from gru_unlearn.geometry.rectifier import GradientRectifier
from gru_unlearn.geometry.rules import Rule
from gru_unlearn.geometry.telemetry import StepTelemetry

__all__ = [
    "GRANULARITIES",
    "NAMES",
    "RECOMMENDED",
    "Conflict",
    "GradientRectifier",
    "Rectification",
    "Rule",
    "StepTelemetry",
    "default_gradient_weight",
    "inner_product",
    "measure_conflict",
    "parse_rectification",
    "remove_conflict_",
]
