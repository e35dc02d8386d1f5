"""Granularity: the closed form (or any other rule) applied block by block.

========  =====================================================================================
model     all trainable parameters are one block: the published algorithm
layer     one block per transformer layer; what stands outside the layers, by module
tensor    one block per parameter tensor
row       one block per row of a matrix: the weights of one output; entries of a vector alone
element   every number alone: u where its sign agrees with that of r, else 0 (under the GRU rule)
========  =====================================================================================

Finer blocks hold more constraints, so more of u is taken away, and ⟨g, r⟩ ≥ 0 holds for each block and hence in total.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gru_unlearn.geometry.closed_form import Conflict
from gru_unlearn.geometry.products import Vector, local, sum_shards, tensor_products
from gru_unlearn.geometry.rules import Factor, Rule

GRANULARITIES = ("model", "layer", "tensor", "row", "element")


class Measures(NamedTuple):
    """What a rectification met and did, by tensor: five float tensors [T]."""

    dot: Tensor
    """⟨u, r⟩ before"""
    forget_squared: Tensor
    """‖u‖² before"""
    retain_squared: Tensor
    """‖r‖²"""
    rectified_squared: Tensor
    """‖g‖² after"""
    conflict_share: Tensor
    """share of the tensor's blocks with ⟨u, r⟩ < 0; that of its block where blocks hold whole tensors"""


def group_names(names: Sequence[str], granularity: str) -> list[str]:
    """The name of each parameter's block, for granularities whose blocks hold whole tensors."""
    if granularity == "model":
        return [""] * len(names)
    return [layer_of(name) for name in names] if granularity == "layer" else list(names)


def layer_of(name: str) -> str:
    """``model.layers.3.mlp.up_proj.weight`` → ``model.layers.3``; outside of numbered layers, the module's name."""
    numbered = re.match(r".*?\.\d+(?=\.)", name)
    return numbered[0] if numbered else name.rpartition(".")[0] or name


@torch.no_grad()
def rectify_groups_(
    forget: Vector, retain: Vector, groups: Sequence[str], rule: Rule, target: Vector | None = None
) -> Measures:
    """g = a·u + b·r with the rule's factors for each group of tensors; three inner products and one update in place.

    Args:
        forget, retain: u and r.
        groups: the name of each tensor's group.
        rule: see :mod:`rules`.
        target: by default g replaces u. With a target, u stays and target ← target − b·r: what u − g does to
            parameters that have already moved by −u.
    """
    products = tensor_products([(forget, retain), (forget, forget), (retain, retain)]).double()
    sums = _by_group(products, groups)
    conflict = Conflict(sums[0], sums[1].sqrt(), sums[2].sqrt())
    a, b = rule(conflict)
    for number, (u, r) in enumerate(zip(forget, retain, strict=True)):
        _combine_(u, r, _at(a, number), _at(b, number), None if target is None else target[number])
    dot, forget_squared, retain_squared = products
    after = a * a * forget_squared + 2 * a * b * dot + b * b * retain_squared
    return Measures(dot, forget_squared, retain_squared, after.clamp(min=0), (conflict.dot < 0).double())


@torch.no_grad()
def rectify_within_(
    forget: Vector, retain: Vector, granularity: str, rule: Rule, target: Vector | None = None
) -> Measures:
    """The same for blocks inside the tensors, rows or elements; the scratch memory is that of the largest tensor."""
    device = next((u.device for u in forget if u is not None), torch.device("cpu"))
    columns = [
        _rectify_tensor_(u, r, granularity, rule, None if target is None else target[number]).to(device)
        for number, (u, r) in enumerate(zip(forget, retain, strict=True))
    ]
    dot, forget_squared, retain_squared, after, conflicts, blocks = sum_shards(
        torch.stack(columns, dim=1), [u if u is not None else r for u, r in zip(forget, retain, strict=True)]
    )
    return Measures(dot, forget_squared, retain_squared, after, conflicts / blocks.clamp(min=1))


def _rectify_tensor_(u: Tensor | None, r: Tensor | None, granularity: str, rule: Rule, target: Tensor | None) -> Tensor:
    """Rectify one tensor; ⟨u, r⟩, ‖u‖², ‖r‖², ‖g‖², blocks in conflict, blocks: [6]."""
    if u is None or r is None:
        present = u if u is not None else r
        squared = torch.zeros(()) if present is None else local(present).double().square().sum().cpu()
        zero = torch.zeros((), dtype=torch.float64)
        before = (squared, zero) if u is not None else (zero, squared)
        return torch.stack([zero, *before, before[0], zero, zero]).double()
    part, direction = local(u).detach(), local(r).detach()
    wide = torch.promote_types(part.dtype, torch.float32)
    x, y = part.to(wide), direction.to(wide)
    dot = x * y
    inner = tuple(range(1, x.ndim)) if granularity == "row" and x.ndim > 1 else ()
    if inner:
        dot = dot.sum(dim=inner, keepdim=True)
        norms = [torch.linalg.vector_norm(v, dim=inner, keepdim=True) for v in (x, y)]
    else:
        norms = [x.abs(), y.abs()]
    measured = [dot.sum(), x.square().sum(), y.square().sum()]
    conflicts, blocks = (dot < 0).sum(), torch.tensor(float(dot.numel()), device=x.device)
    a, b = rule(Conflict(dot, *norms))
    rectified = x * a + y * b
    if target is None:
        part.copy_(rectified)
    else:
        local(target).detach().add_((x - rectified).to(target.dtype))
    return torch.stack([*measured, rectified.square().sum(), conflicts, blocks]).double()


def _by_group(products: Tensor, groups: Sequence[str]) -> Tensor:
    """[.., T] → [.., T]: each tensor's value replaced by the sum over its group."""
    order = {name: number for number, name in enumerate(dict.fromkeys(groups))}
    if len(order) == 1:  # nothing to look up: no copy to the device
        return products.sum(dim=-1, keepdim=True).expand_as(products)
    member = torch.tensor([order[name] for name in groups], device=products.device)
    one_hot = torch.nn.functional.one_hot(member, len(order)).to(products.dtype)
    return (products @ one_hot)[..., member]


def _at(factor: Factor, number: int) -> Factor:
    return factor[number] if isinstance(factor, Tensor) else factor


def _combine_(u: Tensor | None, r: Tensor | None, a: Factor, b: Factor, target: Tensor | None) -> None:
    """u ← a·u + b·r, or target ← target − b·r."""
    place = u if target is None else target
    if place is None:
        return
    part = local(place).detach()
    if target is None and not (isinstance(a, float) and a == 1):
        part.mul_(_like(a, part))
    if r is not None:
        direction = local(r).detach().to(part.dtype)
        part.addcmul_(direction, _like(b, part), value=1 if target is None else -1)


def _like(factor: Factor, part: Tensor) -> Tensor:
    if isinstance(factor, Tensor):
        return factor.to(part.device, part.dtype)
    return torch.full((), factor, device=part.device, dtype=part.dtype)
