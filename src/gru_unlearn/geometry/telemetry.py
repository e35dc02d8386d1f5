"""What one optimizer step did to the conflict between forgetting and retention, as numbers to log."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


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

    @classmethod
    def of(cls, values: Sequence[float]) -> "StepTelemetry":
        """From ⟨u, r⟩, ‖u‖², ‖r‖², ‖g‖², the share of conflicts, and ⟨r, Δθ⟩ (NaN: not measured)."""
        dot, forget, retain, rectified = values[0], *(math.sqrt(value) for value in values[1:4])
        norms = forget * retain
        return cls(
            inner_product=dot,
            forget_norm=forget,
            retain_norm=retain,
            cosine=max(-1.0, min(1.0, dot / norms)) if norms > 0 else 0.0,
            rectified=values[4] > 0,
            conflict_share=values[4],
            removed_share=1 - rectified / forget if forget > 0 else 0.0,
            retain_change=None if math.isnan(values[5]) else values[5],
        )
