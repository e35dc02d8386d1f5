"""The nearest matrix of low rank, as two factors: what a change of weights is written as in LoRA's form.

The nearest one in the Frobenius norm keeps the largest singular values (Eckart and Young 1936); they are found as
:mod:`gru_unlearn.robustness.spectral` finds them: by random directions that are the same at every call, or, of small
matrices and high ranks, by the whole decomposition.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from gru_unlearn.robustness.spectral import leading

SMALL = 256
"""Rows or columns up to which the whole decomposition costs next to nothing, and is taken."""


class LowRank(NamedTuple):
    """A matrix ``up @ down`` [m, n] of some rank."""

    up: Tensor
    """[m, rank], LoRA's B"""
    down: Tensor
    """[rank, n], LoRA's A"""

    @property
    def matrix(self) -> Tensor:
        """Their product."""
        return self.up @ self.down


def low_rank(matrix: Tensor, rank: int) -> LowRank:
    """The matrix itself where it has no more rows or columns than ``rank``, else the nearest one of that rank.

    Args:
        matrix: [m, n], float32.
        rank: of the factors; filled with zeros where the matrix is smaller.
    """
    if rank >= min(matrix.shape):
        return _filled(_itself(matrix), rank)
    found = leading(matrix, rank, exact=min(matrix.shape) <= max(SMALL, 2 * rank))
    root = found.sizes.sqrt()
    return LowRank((found.left * root).contiguous(), (found.right * root).T.contiguous())


def squared_error(matrix: Tensor, near: LowRank) -> float:
    """‖matrix − near‖², measured and not taken from singular values; in float64's range."""
    return float((matrix - near.matrix).double().square().sum())


def relative_error(errors: Iterable[float], norms: Iterable[float]) -> float:
    """Of many matrices as one: √(Σ squared errors / Σ squared norms); 0 where all are zero."""
    whole = sum(norms)
    if whole == 0:
        return 0.0
    return float((sum(errors) / whole) ** 0.5)


def largest_rows(change: Tensor, error: float) -> Tensor:
    """Numbers of the rows that changed most, ascending: as few as leave out no more than ``error`` of ‖change‖.

    Args:
        change: [rows, n].
        error: relative; 0 takes every row that changed at all.
    """
    energy = change.double().square().sum(dim=1)
    order = energy.argsort(descending=True, stable=True)
    after = (energy.sum() - energy[order].cumsum(dim=0)) / energy.sum().clamp(min=1e-300)
    needed = int((after > error**2).sum()) + 1
    changed = int((energy > 0).sum())
    return order[: min(needed, changed) if error else changed].sort().values


def _itself(matrix: Tensor) -> LowRank:
    """A matrix as factors, one of which is the unit matrix: nothing is rounded."""
    rows, columns = matrix.shape
    if rows <= columns:
        return LowRank(torch.eye(rows, device=matrix.device), matrix)
    return LowRank(matrix, torch.eye(columns, device=matrix.device))


def _filled(near: LowRank, rank: int) -> LowRank:
    more = rank - near.up.shape[1]
    pad = torch.nn.functional.pad
    return LowRank(pad(near.up, (0, more)), pad(near.down, (0, 0, 0, more)))
