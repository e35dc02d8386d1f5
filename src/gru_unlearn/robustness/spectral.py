"""Damp the leading components of matrices, on both sides.

What a few directions of a weight change have in common serves many rows, and any fine-tuning finds it again; what is
left without them belongs to few rows and has to be learnt anew. RepSelect (arXiv 2606.17168) collapses the leading
principal components of the forget gradient in this way. Here it is the step that an optimizer has just made.

With A = Σ σᵢ uᵢ vᵢᵀ and k components the result is Σ hᵢ uᵢ vᵢᵀ, where hᵢ = σᵢ (σ_k/σᵢ)² = σ_k²/σᵢ for i < k, one factor
σ_k/σᵢ for each side, and hᵢ = σᵢ from k on; then all of it is scaled so that the norm is A's.

Cost: the leading components by a randomised range finder (Halko, Martinsson and Tropp, arXiv 0909.4061, algorithms
4.4 and 5.1) take about 7 (k + 4) multiplications for each number of the matrix, and decompositions of k + 4 columns,
whatever the number of rows in a batch; the exact decomposition takes several times the smaller dimension.
"""

from typing import NamedTuple

import torch
from torch import Tensor

OVERSAMPLED, PASSES = 4, 2
"""Further directions that the range finder looks at, and how often it goes back and forth."""


class Components(NamedTuple):
    """The k leading singular components of matrices [..., m, n]."""

    left: Tensor
    """[..., m, k], orthonormal columns"""
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
    if exact or min(matrices.shape[-2:]) <= count + OVERSAMPLED:
        left, sizes, right = torch.linalg.svd(matrices, full_matrices=False)
        return _first(left, sizes, right, count)
    basis = _range_of(matrices, count + OVERSAMPLED)
    left, sizes, right = torch.linalg.svd(basis.mT @ matrices, full_matrices=False)
    return _first(basis @ left, sizes, right, count)


def _range_of(matrices: Tensor, count: int) -> Tensor:
    """Orthonormal columns [..., m, count] whose span holds most of the matrices' leading left components."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(matrices.shape[-1], count, generator=generator, dtype=torch.float32)
    basis = torch.linalg.qr(matrices @ directions.to(matrices)).Q
    for _ in range(PASSES):
        across = torch.linalg.qr(matrices.mT @ basis).Q
        basis = torch.linalg.qr(matrices @ across).Q
    return basis


def _first(left: Tensor, sizes: Tensor, right: Tensor, count: int) -> Components:
    return Components(left[..., :count], sizes[..., :count], right.mT[..., :count])


def damped(matrices: Tensor, count: int, *, exact: bool = False) -> Tensor:
    """Matrices [..., m, n] with their ``count`` leading components damped and their norms as they were.

    NaN and infinity stay where they are; a matrix of zeros stays one.
    """
    found = leading(matrices.nan_to_num(0.0, 0.0, 0.0), count, exact=exact)
    least = found.sizes[..., -1:]
    factors = least / found.sizes.clamp_min(torch.finfo(matrices.dtype).tiny)
    taken = found.sizes * (1 - factors.square())
    result = matrices - (found.left * taken.unsqueeze(-2)) @ found.right.mT
    return result * (_norms(matrices) / _norms(result).clamp_min(torch.finfo(matrices.dtype).tiny))


def _norms(matrices: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(matrices, keepdim=True)
