"""Memory of several retain gradients: the closed form for K constraints at once.

    minimise ‖g − u‖²  subject to  ⟨g, r_k⟩ ≥ 0 for all k

is solved by g = u + Σ v_k r_k with v = argmin over v ≥ 0 of ‖u + Σ v_k r_k‖² (its dual): a non-negative least squares
problem in the K × K Gram matrix of the r_k alone, however many parameters there are. With K = 1 it is GRU's closed
form. Costs K(K+1)/2 + K inner products a step, K buffers of the gradients' size, and one wait for the device.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import nnls
from torch import Tensor

from gru_unlearn.geometry.blocks import Measures
from gru_unlearn.geometry.closed_form import NEGLIGIBLE
from gru_unlearn.geometry.products import Vector, local, tensor_products

Matrix = npt.NDArray[np.float64]
Solver = Callable[[Matrix, Matrix], Matrix]
"""(Gram matrix [K, K] of the r_k, their inner products [K] with u) → the factors v [K]."""


def cone(gram: Matrix, dots: Matrix) -> Matrix:
    """v ≥ 0 that minimises ‖u + Σ v_k r_k‖²: the projection of u on the cone {g: ⟨g, r_k⟩ ≥ 0 ∀k}."""
    present = _present(gram)
    scale, values, vectors = _whitened(gram[np.ix_(present, present)])
    factors = np.zeros(len(dots))
    if len(values):
        root = np.sqrt(values)[:, None] * vectors.T  # rootᵀ·root is the Gram matrix of the r_k at unit length
        v, _ = nnls(root, -(vectors.T @ (dots[present] * scale)) / np.sqrt(values))
        factors[present] = v * scale
    return factors


def subspace(gram: Matrix, dots: Matrix) -> Matrix:
    """v that makes u + Σ v_k r_k orthogonal to every r_k: the whole component in their span is taken away."""
    present = _present(gram)
    scale, values, vectors = _whitened(gram[np.ix_(present, present)])
    factors = np.zeros(len(dots))
    factors[present] = -scale * (vectors @ ((vectors.T @ (dots[present] * scale)) / values))
    return factors


def _present(gram: Matrix) -> npt.NDArray[np.intp]:
    """The r_k that are not zero. A zero one forbids nothing, and would be a free column that misleads a solver."""
    return np.flatnonzero(np.sqrt(np.diag(gram)) > NEGLIGIBLE)


def _whitened(gram: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """1/‖r_k‖, and the eigenvalues and -vectors of the Gram matrix at unit length that are not rounding."""
    scale = 1 / np.sqrt(np.diag(gram))
    values, vectors = np.linalg.eigh(gram * np.outer(scale, scale))
    kept = values > 1e-6 * len(values)
    return scale, values[kept], vectors[:, kept]


@torch.no_grad()
def rectify_against_(
    forget: Vector,
    retains: Sequence[Vector],
    groups: Sequence[str],
    solver: Solver,
    target: Vector | None = None,
    metric: Vector | None = None,
) -> Measures:
    """g = u + Σ v_k r_k with the solver's factors for each group of tensors.

    Args:
        forget, retains: u and the K vectors r_k.
        groups: the name of each tensor's group.
        solver: :func:`cone` or :func:`subspace`.
        target: as in :func:`gru_unlearn.geometry.blocks.rectify_groups_`.
        metric: diagonal of the metric in which the solver's inner products are taken; by default Euclidean.

    Returns:
        Euclidean measures, against the mean of the r_k; the conflict share is that of the constraints.
    """
    euclidean = _inner_products(forget, retains)
    weighted = euclidean if metric is None else _inner_products(forget, retains, metric)
    factors = np.zeros_like(euclidean.dots)
    conflicts = np.zeros(len(groups))
    member = np.array(groups)
    for name in dict.fromkeys(groups):
        where = member == name
        factors[:, where] = _solve(weighted, where, solver)[:, None]
        conflicts[where] = (euclidean.dots[:, where].sum(axis=-1) < 0).mean()

    if target is None:
        _add_multiples_(forget, retains, factors)
    else:
        _add_multiples_(target, retains, -factors)

    gram, dots, squared = euclidean
    after = squared + 2 * (factors * dots).sum(axis=0) + np.einsum("kt,klt,lt->t", factors, gram, factors)
    seen = (dots.mean(axis=0), squared, gram.mean(axis=(0, 1)), after.clip(min=0), conflicts)
    return Measures(*(torch.from_numpy(np.ascontiguousarray(values)) for values in seen))


class _Products(NamedTuple):
    """Inner products by tensor, all in one metric."""

    gram: Matrix
    """of the r_k among each other [K, K, T]"""
    dots: Matrix
    """of the r_k with u [K, T]"""
    squared: Matrix
    """‖u‖² [T]"""


def _inner_products(forget: Vector, retains: Sequence[Vector], metric: Vector | None = None) -> _Products:
    vectors = [forget, *retains]
    rows = []
    for last, vector in enumerate(vectors, start=1):
        left = _weighted(vector, metric)
        rows.append(tensor_products([(left, right) for right in vectors[:last]]).double())
    found = torch.cat([row.to(rows[0].device) for row in rows]).cpu().numpy()  # the one wait for the device

    table = np.zeros((len(vectors), len(vectors), found.shape[1]))
    lower = np.tril_indices(len(vectors))
    table[lower] = found
    table[lower[::-1]] = found
    return _Products(table[1:, 1:], table[1:, 0], table[0, 0])


def _weighted(vector: Vector, metric: Vector | None) -> Vector:
    """vector · metric, number by number."""
    if metric is None:
        return vector
    return [_times(x, h) for x, h in zip(vector, metric, strict=True)]


def _times(x: Tensor | None, h: Tensor | None) -> Tensor | None:
    if x is None or h is None:
        return x
    return x * h


def _solve(products: _Products, where: npt.NDArray[np.bool_], solver: Solver) -> Matrix:
    """The factors [K] for the group of tensors at these places."""
    gram = products.gram[..., where].sum(axis=-1)
    dots = products.dots[:, where].sum(axis=-1)
    if np.isfinite(gram).all() and np.isfinite(dots).all():
        return solver(gram, dots)
    return np.full(len(dots), np.nan)  # solvers choke on NaN, which should reach the gradients and be found there


def _add_multiples_(places: Vector, retains: Sequence[Vector], factors: Matrix) -> None:
    """place_t ← place_t + Σ factors[k, t] · r_k,t; one tensor at a time, because it may come from elsewhere."""
    for number, place in enumerate(places):
        if place is not None:
            _add_to_(place, [retain[number] for retain in retains], factors[:, number])


def _add_to_(place: Tensor, directions: Sequence[Tensor | None], factors: Matrix) -> None:
    """place ← place + Σ factor · direction, in float32 where the place's type is narrower."""
    part = local(place).detach()
    total = part.to(torch.promote_types(part.dtype, torch.float32))
    for r, factor in zip(directions, factors, strict=True):
        if r is not None and factor:
            total.add_(local(r).detach().to(total.dtype), alpha=float(factor))
    if total is not part:
        part.copy_(total)
