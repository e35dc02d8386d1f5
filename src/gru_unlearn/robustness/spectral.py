"""Damp the leading components of matrices, on both sides.

What a few directions of a weight change have in common serves many rows, and any fine-tuning finds it again; what is
left without them belongs to few rows and has to be learnt anew. RepSelect (arXiv 2606.17168) collapses the leading
principal components of the forget gradient in this way. Here it is the step that an optimizer has just made.

With A = Σ σᵢ uᵢ vᵢᵀ and k components the result is Σ hᵢ uᵢ vᵢᵀ, where hᵢ = σᵢ (σ_k/σᵢ)² = σ_k²/σᵢ for i < k, one factor
σ_k/σᵢ for each side, and hᵢ = σᵢ from k on; then all of it is scaled so that the norm is A's.

Cost: the leading components by a randomised range finder (Halko, Martinsson and Tropp, arXiv 0909.4061, algorithm 4.4,
for the rows' space) take 6 k + 32 multiplications for each number of the matrix, and decompositions of 1.25 k + 8
columns, whatever the number of rows in a batch; the exact decomposition takes several times the smaller dimension.
"""

from typing import NamedTuple

import torch
from torch import Tensor

RESOLVED = 1e-6
"""Of the largest singular value; what is smaller may be rounding."""


class Components(NamedTuple):
    """The k leading singular components of matrices [..., m, n]."""

    left: Tensor
    """[..., m, k], orthonormal columns; zeros may stand for one without size"""
    sizes: Tensor
    """[..., k], descending"""
    right: Tensor
    """[..., n, k], orthonormal columns"""


def components_of(shape: torch.Size, share: float) -> int:
    """How many components a share of those of a matrix [..., m, n] is: at least one, and not all."""
    most = min(shape[-2:])
    return min(max(1, round(share * most)), most - 1)


def leading(matrices: Tensor, count: int, *, exact: bool = False) -> Components:
    """The leading components of each matrix.

    Args:
        matrices: [..., m, n], float32 or wider, finite.
        count: k, from 1 to below m and n.
        exact: by the whole decomposition. Else by random directions, the same at every call: neither the global
            generators nor anything between two calls plays a part.
    """
    if exact or min(matrices.shape[-2:]) <= looked_at(count):
        left, sizes, right = torch.linalg.svd(matrices, full_matrices=False)
        return Components(left[..., :count], sizes[..., :count], right.mT[..., :count])
    basis = _row_space_of(matrices, looked_at(count))
    images = matrices @ basis
    sizes, turn = _sizes_of(images)
    sizes, turn = sizes[..., :count], turn[..., :count]
    seen = _seen(sizes)
    left = images @ turn * (seen / sizes.where(seen, 1.0)).unsqueeze(-2)
    return Components(left, sizes, basis @ turn)


def looked_at(count: int) -> int:
    """The directions of the range finder: more than are asked for, so that those come out well."""
    return count + count // 4 + 8


def _row_space_of(matrices: Tensor, count: int) -> Tensor:
    """Orthonormal columns [..., n, count] whose span holds most of the matrices' leading right components."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(matrices.shape[-2], count, generator=generator, dtype=torch.float32)
    basis = torch.linalg.qr(matrices.mT @ directions.to(matrices)).Q
    across = torch.linalg.qr(matrices @ basis).Q  # there and back once more: what leads stands out
    return torch.linalg.qr(matrices.mT @ across).Q


def _sizes_of(images: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values [..., c] of [..., m, c], descending, and their right vectors [..., c, c].

    By the inner products of the columns, many times as fast as a decomposition, and in float64, whose digits suffice
    for squares of float32.
    """
    columns = images.double()
    squares, turn = torch.linalg.eigh(columns.mT @ columns)  # ascending
    return squares.flip(-1).clamp_min(0).sqrt().to(images), turn.flip(-1).to(images)


def damped(matrices: Tensor, count: int, *, exact: bool = False) -> Tensor:
    """Matrices [..., m, n] with their ``count`` leading components damped and their norms as they were.

    NaN and infinity stay where they are; a matrix of zeros stays one. Where a matrix is of lower rank, its last
    component stands for the ``count``-th.
    """
    found = leading(matrices.nan_to_num(0.0, 0.0, 0.0), count, exact=exact)
    seen = _seen(found.sizes)
    least = found.sizes.where(seen, torch.inf).amin(dim=-1, keepdim=True)
    factors = (least / found.sizes).where(seen, 1.0)
    taken = found.sizes * (1 - factors.square())
    result = matrices - (found.left * taken.unsqueeze(-2)) @ found.right.mT
    return result * (_norms(matrices) / _norms(result).clamp_min(torch.finfo(matrices.dtype).tiny))


def _seen(sizes: Tensor) -> Tensor:
    """Which singular values [..., k], descending, are more than rounding: of float32, and of squares in float64."""
    return sizes > sizes[..., :1] * RESOLVED


def _norms(matrices: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(matrices, keepdim=True)
