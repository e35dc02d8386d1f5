"""The closed form: project the unlearning gradient off the retain direction when the two conflict.

With u the gradient of the forget objective and r the retain direction (arXiv 2503.09117, section 4):

    minimise ‖g − u‖²  subject to  ⟨g, r⟩ ≥ 0
    g = u                        if ⟨u, r⟩ ≥ 0
    g = u − (⟨u, r⟩ / ‖r‖²) r    otherwise

Vectors are lists with one entry per parameter, so nothing is ever flattened into one long copy; None is zero.
Every scalar stays a tensor on its device: no function here waits for the device.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# Low-precision tensors are widened piece by piece: 2²² float32 values are 16 MiB of scratch, however large the tensor.
_CHUNK = 1 << 22


Vector = Sequence[Tensor | None]


class Conflict(NamedTuple):
    """Geometry of one pair (u, r): four 0-dim tensors."""

    dot: Tensor
    """⟨u, r⟩"""
    forget_norm: Tensor
    """‖u‖"""
    retain_norm: Tensor
    """‖r‖"""
    coefficient: Tensor
    """Multiple of r that the closed form subtracts: min(0, ⟨u, r⟩)/‖r‖², and 0 where r is zero."""


def inner_product(xs: Vector, ys: Vector, dtype: torch.dtype | None = None) -> Tensor:
    """⟨x, y⟩ over all tensors of two equally long lists, as a 0-dim tensor on the first pair's device.

    Args:
        xs, ys: tensors of pairwise equal shapes, None standing for zero; dtypes may differ from pair to pair.
        dtype: accumulate in this type; by default float32, or float64 where a tensor is float64.
    """
    parts = [_dot(x, y, dtype) for x, y in zip(xs, ys, strict=True) if x is not None and y is not None]
    if not parts:
        return torch.zeros((), dtype=dtype or torch.float32)
    widest = max((part.dtype for part in parts), key=lambda kind: kind.itemsize)
    return torch.stack([part.to(device=parts[0].device, dtype=widest) for part in parts]).sum()


def _dot(x: Tensor, y: Tensor, dtype: torch.dtype | None) -> Tensor:
    wide = dtype or torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    flat_x, flat_y = x.detach().reshape(-1), y.detach().reshape(-1)
    if flat_x.dtype == flat_y.dtype == wide:
        return torch.dot(flat_x, flat_y)
    pieces = zip(flat_x.split(_CHUNK), flat_y.split(_CHUNK), strict=True)
    return torch.stack([torch.dot(a.to(wide), b.to(wide)) for a, b in pieces]).sum()


def measure_conflict(forget: Vector, retain: Vector) -> Conflict:
    """Inner product, norms and projection coefficient of u (``forget``) against r (``retain``)."""
    forget_squared = inner_product(forget, forget)
    dot = inner_product(forget, retain).to(forget_squared.device)
    retain_squared = inner_product(retain, retain).to(dot.device)
    # Where r is zero there is nothing to project on; dividing by 1 there keeps NaN out.
    divisor = torch.where(retain_squared > 0, retain_squared, 1.0)
    coefficient = torch.where(retain_squared > 0, dot.clamp(max=0) / divisor, 0.0)
    return Conflict(dot, forget_squared.sqrt(), retain_squared.sqrt(), coefficient)


@torch.no_grad()
def remove_conflict_(forget: Vector, retain: Vector, coefficient: Tensor) -> None:
    """u ← u − coefficient · r, in place and without a temporary of the gradient's size."""
    for u, r in zip(forget, retain, strict=True):
        if u is not None and r is not None:
            u.addcmul_(r.to(u.dtype), coefficient.to(device=u.device, dtype=u.dtype), value=-1)
