"""Steps in the metric of retention: where the optimizer's displacement is turned to before it is rectified.

    v ← 0.9 v + 0.1 r²             moving mean of the squares of retain gradients
    s = √v / mean(√v)              what a change of this number costs retention, 1 on average
    g = u / (s + floor), as long as u

u is minus the displacement. v is the diagonal of the retain loss's Fisher matrix as whole batches show it, up to a
factor. Adam equalises how far numbers move, whatever they are for; this turns the step to where the rows that must stay
do not care. The root tempers it, as Adam's does, and no number moves more than 1/floor + 1 times as far as one of
average cost.

Guarantees ‖g‖ = ‖u‖, and that each number goes the way that it went: ⟨g, u⟩ > 0, whatever u descends on. Guarantees
nothing about ⟨g, r⟩: what must stay has to be in u, as a retain term beside the forget loss. It is made for ``anchor``,
which is zero where the model answers as it did: r is small as long as nothing is lost, and grows with the loss.

Cost: one more buffer of the gradients' size, beside r and the copy of the parameters that every rectification of
updates takes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gru_unlearn.geometry.direction import Direction
from gru_unlearn.geometry.named_directions import named_tensors, put_named
from gru_unlearn.geometry.products import Vector, local, pieces, shard_groups, sum_shards, tensor_products

FLOOR = 0.3
"""By default: on the built-in models 0.1 keeps 0.002 more, in half as many steps again (docs/results.md)."""

_OLD = 0.9
"""What the moving mean keeps of itself in a step."""

_KIND = "@squares"
"""What stands behind a parameter's name in a checkpoint."""


class RetainMetric:
    """Turns displacements to where they cost little. The mean begins at zero, which its scale makes up for.

    Args:
        names: the parameters that the vectors span, with their names.
        new_direction: makes an empty direction over them, for v.
        floor: the least that a number costs, in units of the average cost.
    """

    def __init__(
        self, names: Mapping[nn.Parameter, str], new_direction: Callable[[], Direction], floor: float = FLOOR
    ) -> None:
        self.floor = floor
        self._names, self._params = names, list(names)
        self._new_direction = new_direction
        self._squares = new_direction()

    @torch.no_grad()
    def turn_(self, forget: Vector, retain: Vector, target: Vector) -> None:
        """u ← g, and target ← target + u − g: what turns −u into −g for parameters that have already moved.

        Args:
            forget: u, in the parameters' order.
            retain: r.
            target: the parameters.
        """
        self._add(retain)
        squares = self._squares.along(self._params)
        numbers = range(len(self._params))
        costs = _Costs(self._mean_root(squares, forget), self.floor)
        norms = tensor_products([(forget, forget)]).double()[0].sum()
        turned = _summed([_turned_squared(forget[k], squares[k], costs) for k in numbers], forget).sum()
        stretch = (norms / _positive(turned)).sqrt()
        for k in numbers:
            _turn_(target[k], forget[k], squares[k], costs, stretch)

    def _add(self, retain: Vector) -> None:
        """This step's r, to the moving mean."""
        self._squares.decay(_OLD)
        for param, r in zip(self._params, retain, strict=True):
            if r is not None:
                self._squares.add(param, r.square(), 1 - _OLD)
        self._squares.settle()

    def _mean_root(self, squares: Vector, alike: Vector) -> Tensor:
        """mean(√v) over all numbers, 0-dim; ``alike`` is sharded as v is."""
        total = _summed([_sum_of_roots(v) for v in squares], alike).sum()
        return _positive(total / sum(param.numel() for param in self._params))

    def copies(self) -> dict[str, Tensor]:
        """v by parameter name, with ``@squares`` behind it."""
        return named_tensors({_KIND: self._squares}, self._names)

    def restore(self, saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Take in what :meth:`copies` gave; returns what else there was.

        Raises:
            ValueError: an unknown parameter name, or another shape.
        """
        own = {name: tensor for name, tensor in saved.items() if name.endswith(_KIND)}
        self._squares = self._new_direction()
        put_named(own, {_KIND: self._squares}, self._names)
        return {name: tensor for name, tensor in saved.items() if name not in own}


class _Costs(NamedTuple):
    """What turns v into s + floor."""

    mean_root: Tensor
    floor: float

    def of(self, squares: Tensor, dtype: torch.dtype) -> Tensor:
        """Of one piece of v."""
        roots = squares.to(torch.promote_types(dtype, torch.float32)).sqrt()
        return roots.div_(self.mean_root.to(roots)).add_(self.floor)


def _turned_squared(u: Tensor | None, squares: Tensor | None, costs: _Costs) -> Tensor:
    """‖u / (s + floor)‖² of this process's part of a tensor: 0-dim, float64."""
    total = torch.zeros((), dtype=torch.float64, device=costs.mean_root.device)
    for x, v in _pieces(u, squares):
        total += (x / costs.of(v, x.dtype)).square().sum(dtype=torch.float64).to(total.device)
    return total


def _turn_(place: Tensor | None, u: Tensor | None, squares: Tensor | None, costs: _Costs, stretch: Tensor) -> None:
    """g = stretch · u / (s + floor): place ← place + u − g, u ← g."""
    if place is None or u is None:
        return
    for (part,), (x, v) in zip(pieces(local(place).detach()), _pieces(u, squares), strict=True):
        cost = costs.of(v, x.dtype)
        g = (x * stretch.to(cost) / cost).to(x.dtype)
        part.add_(x - g)
        x.copy_(g)


def _pieces(u: Tensor | None, squares: Tensor | None) -> Iterator[tuple[Tensor, ...]]:
    """Of u and v alike, on this process; v is zero where no r came."""
    if u is None:
        return iter(())
    x = local(u).detach()
    if squares is None:
        return pieces(x, torch.zeros_like(x))
    return pieces(x, local(squares))


def _sum_of_roots(squares: Tensor | None) -> Tensor:
    if squares is None:
        return torch.zeros((), dtype=torch.float64)
    return local(squares).sqrt().sum(dtype=torch.float64)


def _summed(parts: Sequence[Tensor], alike: Vector) -> Tensor:
    """One number for each tensor, from this process's parts of a vector that is sharded as another is: float64 [T]."""
    device = next((local(x).device for x in alike if x is not None), torch.device("cpu"))
    return sum_shards(torch.stack([part.to(device) for part in parts]), [shard_groups(x) for x in alike])


def _positive(value: Tensor) -> Tensor:
    return value.clamp(min=torch.finfo(torch.float32).tiny)
