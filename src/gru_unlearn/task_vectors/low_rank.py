"""The nearest matrix of low rank, as two factors: what a change of weights is written as in LoRA's form.

The nearest one in the Frobenius norm keeps the largest singular values (Eckart and Young 1936). Where the rank is small
beside the matrix they are found by random projection (Halko, Martinsson and Tropp, arXiv 0909.4061), else by the whole
decomposition.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

SPARE = 16
"""Directions that the random projection looks at beside those that are asked for."""

ITERATIONS = 4
"""Of its power iteration: changes by an adaptive optimizer have many singular values of like size."""


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


def low_rank(matrix: Tensor, rank: int, seed: int = 0) -> LowRank:
    """The matrix itself where it has no more rows or columns than ``rank``, else the nearest one of that rank.

    Args:
        matrix: [m, n], float32.
        rank: of the factors; filled with zeros where the matrix is smaller.
        seed: of the random projection; the same one gives the same factors.
    """
    smaller = min(matrix.shape)
    if rank >= smaller:
        return _filled(_itself(matrix), rank)
    left, values, right = _singular(matrix, rank, seed)
    root = values[:rank].sqrt()
    return LowRank((left[:, :rank] * root).contiguous(), (right[:, :rank] * root).T.contiguous())


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


def _singular(matrix: Tensor, rank: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Left vectors, values and right vectors, of at least the ``rank`` largest values."""
    looked_at = rank + SPARE
    if 2 * looked_at >= min(matrix.shape):
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        return left, values, right.mT
    devices = [matrix.device] if matrix.is_cuda else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        return torch.svd_lowrank(matrix, q=looked_at, niter=ITERATIONS)
