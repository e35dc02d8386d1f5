"""The closed form: project the unlearning gradient off the retain direction when the two conflict.

With u the gradient of the forget objective and r the retain direction (arXiv 2503.09117, section 4):

    minimise ‖g − u‖²  subject to  ⟨g, r⟩ ≥ 0
    g = u                        if ⟨u, r⟩ ≥ 0
    g = u − (⟨u, r⟩ / ‖r‖²) r    otherwise

Vectors are lists with one entry per parameter, so nothing is ever flattened into one long copy; None is zero.
Every scalar stays a tensor on its device: no function here waits for the device.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gru_unlearn.geometry.products import Vector, combine_, inner_product

NEGLIGIBLE = 1e-18
"""Norms up to this count as zero: float32 cannot hold their squares. A smoothed r gets there wherever its gradient
stays away (rows of tokens that do not occur, experts that are not used), because it decays by 1 − γ a step."""


class Conflict(NamedTuple):
    """Geometry of pairs (u, r), one pair a block: three tensors of one shape, 0-dim where the block is the model."""

    dot: Tensor
    """⟨u, r⟩"""
    forget_norm: Tensor
    """‖u‖"""
    retain_norm: Tensor
    """‖r‖"""

    @property
    def coefficient(self) -> Tensor:
        """Multiple of r that the closed form subtracts: min(0, ⟨u, r⟩)/‖r‖², and 0 where r is zero."""
        return quotient(quotient(self.dot.clamp(max=0), self.retain_norm), self.retain_norm)


def quotient(x: Tensor, norm: Tensor) -> Tensor:
    """x/norm, and 0 where the norm is negligible."""
    absent = (norm > NEGLIGIBLE).logical_not()  # NaN counts as absent too
    return (x / norm.masked_fill(absent, 1.0)).masked_fill(absent, 0.0)


def measure_conflict(forget: Vector, retain: Vector) -> Conflict:
    """Inner product and norms of u (``forget``) and r (``retain``), both taken as one vector."""
    forget_squared = inner_product(forget, forget)
    dot = inner_product(forget, retain).to(forget_squared.device)
    return Conflict(dot, forget_squared.sqrt(), inner_product(retain, retain).to(dot.device).sqrt())


@torch.no_grad()
def remove_conflict_(forget: Vector, retain: Vector, coefficient: Tensor) -> None:
    """u ← u − coefficient · r, in place and without a temporary of the gradient's size."""
    for u, r in zip(forget, retain, strict=True):
        if u is not None and r is not None:
            combine_(u, 1.0, r, -coefficient)
