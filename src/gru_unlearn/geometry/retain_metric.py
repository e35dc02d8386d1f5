"""Steps in the metric of retention: where the optimizer's displacement is turned to before it is rectified.

    v ← 0.9 v + 0.1 r²             moving mean of the squares of retain gradients
    s = √v / mean(√v)              what a change of this number costs retention, 1 on average
    w                              Adam's own moving mean of the squares of the gradients that it steps along
    a = √w / mean(√w)              what a change of this number is worth to the objective, 1 on average
    g = u / (s + floor) / (1 − temper + temper / a), as long as u

u is minus the displacement. v is the diagonal of the retain loss's Fisher matrix as whole batches show it, up to a
factor. Adam equalises how far numbers move, whatever they are for; this turns the step to where the objective gains
and the rows that must stay do not care. The roots soften it, as Adam's does. With temper 0 it turns Adam's step,
with temper 1 that of momentum alone, each number's as large as its gradients are.

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
from gru_unlearn.geometry.preconditioner import squares_of
from gru_unlearn.geometry.products import Vector, local, pieces, shard_groups, sum_shards, tensor_products

FLOOR = 0.3
"""By default: on the built-in models 0.1 keeps 0.002 more, in half as many steps again (docs/results.md)."""

TEMPER = 1.0
"""By default, where it is asked for."""

_OLD = 0.9
"""What the moving mean keeps of itself in a step."""

_KIND = "@squares"
"""What stands behind a parameter's name in a checkpoint."""


class RetainMetric:
    """Turns displacements to where they cost little. The mean begins at zero, which its scale makes up for.

    Args:
        names: the parameters that the vectors span, with their names.
        new_direction: makes an empty direction over them, for v.
        optimizer: whose displacements are turned, and whose squares w are.
        floor: the least that a number costs, in units of the average cost.
        temper: in [0, 1], from Adam's step to that of momentum.
    """

    def __init__(
        self,
        names: Mapping[nn.Parameter, str],
        new_direction: Callable[[], Direction],
        optimizer: torch.optim.Optimizer,
        floor: float = FLOOR,
        temper: float = 0.0,
    ) -> None:
        self.floor = floor
        self.temper = temper
        self._names, self._params = names, list(names)
        self._new_direction = new_direction
        self._optimizer = optimizer
        self._squares = new_direction()

    @torch.no_grad()
    def turn_(self, forget: Vector, retain: Vector, target: Vector) -> None:
        """u ← g, and target ← target + u − g: what turns −u into −g for parameters that have already moved.

        Args:
            forget: u, in the parameters' order.
            retain: r.
            target: the parameters.

        Raises:
            ValueError: a number is to be tempered of which the optimizer keeps no square.
        """
        self._add(retain)
        costs, worths = self._squares.along(self._params), self._worths(forget)
        divisors = _Divisors(self._mean_root(costs, forget), self.floor, self._mean_root(worths, forget), self.temper)
        numbers = range(len(self._params))
        norms = tensor_products([(forget, forget)]).double()[0].sum()
        turned = _summed([_turned_squared(forget[k], costs[k], worths[k], divisors) for k in numbers], forget).sum()
        stretch = (norms / _positive(turned)).sqrt()
        for k in numbers:
            _turn_(target[k], forget[k], costs[k], worths[k], divisors, stretch)

    def _worths(self, forget: Vector) -> Vector:
        """w; None where nothing is tempered, or nothing moved."""
        if not self.temper:
            return [None] * len(self._params)
        worths = squares_of(self._optimizer, self._params)
        if any(w is None and u is not None for w, u in zip(worths, forget, strict=True)):
            title = type(self._optimizer).__name__
            raise ValueError(
                f"temper needs the squares that Adam and AdamW keep of each number (exp_avg_sq), and {title} does not: "
                "take one of these, or leave temper away"
            )
        return worths

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


class _Divisors(NamedTuple):
    """What turns v and w into (s + floor) · (1 − temper + temper / a)."""

    mean_cost: Tensor
    floor: float
    mean_worth: Tensor
    temper: float

    def of(self, cost: Tensor, worth: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Of one piece of v and w."""
        wide = torch.promote_types(dtype, torch.float32)
        divisor = cost.to(wide).sqrt().div_(self.mean_cost.to(cost.device, wide)).add_(self.floor)
        if worth is None:
            return divisor
        a = worth.to(wide).sqrt().div_(self.mean_worth.to(cost.device, wide))
        return divisor.mul_(a.reciprocal_().mul_(self.temper).add_(1 - self.temper))


def _turned_squared(u: Tensor | None, cost: Tensor | None, worth: Tensor | None, divisors: _Divisors) -> Tensor:
    """‖g‖² before g is stretched, of this process's part of a tensor: 0-dim, float64."""
    total = torch.zeros((), dtype=torch.float64, device=divisors.mean_cost.device)
    for x, v, w in _pieces(u, cost, worth):
        total += (x / divisors.of(v, w, x.dtype)).square().sum(dtype=torch.float64).to(total.device)
    return total


def _turn_(
    place: Tensor | None,
    u: Tensor | None,
    cost: Tensor | None,
    worth: Tensor | None,
    divisors: _Divisors,
    stretch: Tensor,
) -> None:
    """place ← place + u − g, u ← g, stretched."""
    if place is None or u is None:
        return
    for (part,), (x, v, w) in zip(pieces(local(place).detach()), _pieces(u, cost, worth), strict=True):
        divisor = divisors.of(v, w, x.dtype)
        g = (x * stretch.to(divisor) / divisor).to(x.dtype)
        part.add_(x - g)
        x.copy_(g)


def _pieces(
    u: Tensor | None, cost: Tensor | None, worth: Tensor | None
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Of u, v and w alike, on this process; v is zero where no r came."""
    if u is None:
        return
    x = local(u).detach()
    v = torch.zeros_like(x) if cost is None else local(cost)
    w = v if worth is None else local(worth)
    for here, its_cost, its_worth in pieces(x, v, w):
        yield here, its_cost, None if worth is None else its_worth


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
