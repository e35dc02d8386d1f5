"""What one optimizer step did to the conflict between forgetting and retention, as numbers to log."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gru_unlearn.geometry.blocks import Measures, layer_of


@dataclass(frozen=True, slots=True)
class StepTelemetry:
    """What one optimizer step did to the conflict between forgetting and retention.

    u is the vector that was rectified: the forget gradient, or in update space minus the optimizer's displacement.
    """

    inner_product: float
    """⟨u, r⟩ before rectification; negative means that the forget step would raise the retain loss."""
    forget_norm: float
    """‖u‖ before rectification and clipping"""
    retain_norm: float
    """‖r‖"""
    cosine: float
    """cos(u, r), 0 where either is zero"""
    rectified: bool
    """whether any block conflicted, so that something was changed"""
    conflict_share: float
    """share of the blocks that conflicted (0 or 1 where the model is one block), weighted by tensors"""
    removed_share: float
    """1 − ‖g‖/‖u‖, between 0 (nothing taken away) and 1; negative where a rule lengthens u"""
    retain_change: float | None
    """⟨r, Δθ⟩: realised first-order change of the retain loss by the optimizer's displacement; below zero is good.
    None before the step has been taken, or when not measured."""
    retain_refused: float = 0.0
    """share of the window's retain gradients (one for each tensor and pass) that were NaN or infinite somewhere, and so
    did not go into r"""

    @classmethod
    def of(cls, values: Sequence[float]) -> "StepTelemetry":
        """From ⟨u, r⟩, ‖u‖², ‖r‖², ‖g‖², the share of conflicts, ⟨r, Δθ⟩ (NaN: not measured), the share refused."""
        dot, *squares, conflict_share, change, refused = values
        forget, retain, rectified = map(math.sqrt, squares)
        cosine = removed_share = 0.0
        if forget * retain > 0:
            cosine = max(-1.0, min(1.0, dot / (forget * retain)))
        if forget > 0:
            removed_share = 1 - rectified / forget
        return cls(
            inner_product=dot,
            forget_norm=forget,
            retain_norm=retain,
            cosine=cosine,
            rectified=conflict_share > 0,
            conflict_share=conflict_share,
            removed_share=removed_share,
            retain_change=None if math.isnan(change) else change,
            retain_refused=refused,
        )


def summed(measures: Measures, retain_change: Tensor | None, refused_share: Tensor) -> Tensor:
    """What :class:`StepTelemetry` is made of, on the device: float64 [7]."""
    sums = [part.sum() for part in measures[:4]]
    change = torch.full_like(sums[0], math.nan) if retain_change is None else retain_change
    values = [*sums, measures.conflict_share.mean(), change, refused_share]
    return torch.stack([value.to(sums[0].device, torch.float64) for value in values])


def removed_by_layer(measures: Measures, names: Iterable[str]) -> dict[str, float]:
    """1 − ‖g‖/‖u‖ for each layer of the parameters with these names. Waits for the device."""
    before: defaultdict[str, float] = defaultdict(float)
    after: defaultdict[str, float] = defaultdict(float)
    squares = zip(measures.forget_squared.tolist(), measures.rectified_squared.tolist(), strict=True)
    for name, (u, g) in zip(names, squares, strict=True):
        before[layer_of(name)] += u
        after[layer_of(name)] += g

    shares = dict.fromkeys(before, 0.0)
    for layer, u in before.items():
        if u > 0:  # NaN is not
            shares[layer] = 1 - math.sqrt(after[layer] / u)
    return shares
