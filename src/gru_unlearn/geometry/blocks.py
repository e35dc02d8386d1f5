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

import math
import re
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from gru_unlearn.geometry.closed_form import NEGLIGIBLE, Conflict
from gru_unlearn.geometry.products import (
    Factor,
    Vector,
    combine_,
    indices,
    local,
    shard_groups,
    sum_shards,
    tensor_products,
)
from gru_unlearn.geometry.rules import Rule, gru, sago

INSIDE_TENSORS = ("row", "element")
"""Granularities whose blocks are parts of a tensor."""

GRANULARITIES = ("model", "layer", "tensor", *INSIDE_TENSORS)

_PIECE = {"cpu": 1 << 17}  # temporaries stay in a processor's cache
_PIECE_ELSEWHERE = 1 << 22  # and elsewhere keep the device busy: on an H200, four times as fast as the former


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
    if granularity == "layer":
        return [layer_of(name) for name in names]
    return list(names)


def layer_of(name: str) -> str:
    """``model.layers.3.mlp.up_proj.weight`` → ``model.layers.3``; outside of numbered layers, the module's name."""
    numbered = re.match(r".*?\.\d+(?=\.)", name)
    if numbered:
        return numbered[0]
    module, _, _ = name.rpartition(".")
    return module or name


# --- blocks of whole tensors -----------------------------------------------------------------------------------------


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

    places, scale, factor = (forget, a, b) if target is None else (target, 1.0, -b)
    for number, (place, r) in enumerate(zip(places, retain, strict=True)):
        if place is not None:
            combine_(place, _at(scale, number), r, _at(factor, number))

    dot, forget_squared, retain_squared = products
    after = a * a * forget_squared + 2 * a * b * dot + b * b * retain_squared
    after = after.clamp(min=0)
    if target is None:
        after = _clear_rounding_(forget, groups, a * a * sums[1], after)
    return Measures(dot, forget_squared, retain_squared, after, (conflict.dot < 0).double())


def _clear_rounding_(vector: Vector, groups: Sequence[str], kept_squared: Tensor, after: Tensor) -> Tensor:
    """Exactly 0 in groups where a·u and b·r cancel but for rounding, which Adam would scale up to a whole step.

    Args:
        vector: g.
        groups: as in :func:`rectify_groups_`.
        kept_squared: ‖a·u‖² of each tensor's group.
        after: ‖g‖² of each tensor, from inner products. They are too coarse to tell rounding from a remainder, but
            only where they see next to nothing can nothing be left.

    Returns:
        ``after``, with 0 for the groups that were cleared.
    """
    doubtful = _by_group(after[None], groups)[0] < 1e-3 * kept_squared
    if doubtful.device.type == "cpu" and not doubtful.numpy().any():  # elsewhere, asking would wait for the device
        return after
    products = tensor_products([(vector, vector)])
    eps = torch.finfo(products.dtype).eps
    left = _by_group(products.double().to(after.device), groups)[0].sqrt()
    sizes = indices(tuple(0 if g is None else g.numel() for g in vector), after.device)
    numbers = _by_group(sizes[None].double(), groups)[0]

    nothing = doubtful & is_rounding(left, kept_squared.sqrt(), numbers, eps)
    for number, g in enumerate(vector):
        if g is not None:
            local(g).detach().masked_fill_(nothing[number].to(g.device), 0)
    return after.masked_fill(nothing, 0)


def is_rounding(left: Tensor, kept: Tensor, numbers: Tensor, eps: float) -> Tensor:
    """Whether what is left of ‖a·u‖ after b·r was added is no more than the factors' own error.

    They come from inner products, whose errors grow with the root of their length: of u = −c·r there remain 1 eps of
    ‖u‖ at one number, and 80 at 10⁷.

    Args:
        left, kept: ‖g‖ and ‖a·u‖ of each block.
        numbers: how many a block has.
        eps: of the type in which the inner products were taken.
    """
    bound = 4 + (numbers - 1).sqrt() / 8
    return (kept > NEGLIGIBLE) & (left <= eps * bound * kept)


def _by_group(products: Tensor, groups: Sequence[str]) -> Tensor:
    """[.., T] → [.., T]: each tensor's value replaced by the sum over its group."""
    order = {name: number for number, name in enumerate(dict.fromkeys(groups))}
    if len(order) == 1:
        return products.sum(dim=-1, keepdim=True).expand_as(products)
    if len(order) == len(groups):
        return products
    member = indices(tuple(order[name] for name in groups), products.device)
    one_hot = (member[:, None] == torch.arange(len(order), device=products.device)).to(products.dtype)
    return (products @ one_hot)[..., member]


def _at(factor: Factor, number: int) -> Factor:
    """The factor of one tensor."""
    return factor[number] if isinstance(factor, Tensor) else float(factor)


# --- blocks inside the tensors ---------------------------------------------------------------------------------------


@torch.no_grad()
def rectify_within_(
    forget: Vector, retain: Vector, granularity: str, rule: Rule, target: Vector | None = None
) -> Measures:
    """The same for blocks inside the tensors, rows or elements; a piece of a tensor at a time saves scratch memory."""
    device = next((u.device for u in forget if u is not None), torch.device("cpu"))
    places = target or [None] * len(forget)
    columns, groups = [], []
    for u, r, place in zip(forget, retain, places, strict=True):
        columns.append(_rectify_tensor_(u, r, granularity, rule, place).to(device))
        groups.append(shard_groups(r if u is None else u))

    sums = sum_shards(torch.stack(columns, dim=1), groups)
    dot, forget_squared, retain_squared, after, conflicts, blocks = sums
    return Measures(dot, forget_squared, retain_squared, after.clamp(min=0), conflicts / blocks.clamp(min=1))


def _rectify_tensor_(u: Tensor | None, r: Tensor | None, granularity: str, rule: Rule, target: Tensor | None) -> Tensor:
    """Rectify one tensor; ⟨u, r⟩, ‖u‖², ‖r‖², ‖g‖², blocks in conflict, blocks: float64 [6]."""
    if u is not None and r is None and rule is not gru:
        r = torch.zeros_like(u)  # some rules change u where nothing is in its way
    if u is None or r is None:
        return _measure_alone(u, r)
    us, rs = _pieces(u), _pieces(r)
    places = (None,) * len(us) if target is None else _pieces(target)
    total = torch.zeros(6, dtype=torch.float64, device=u.device)
    for x, y, place in zip(us, rs, places, strict=True):
        total += _rectify_piece_(x, y, granularity, rule, place)
    return total


def _measure_alone(u: Tensor | None, r: Tensor | None) -> Tensor:
    """The same where one of the two is zero, so that nothing conflicts."""
    device = next((x.device for x in (u, r) if x is not None), None)
    squared_u, squared_r = _squared_norm(u, device), _squared_norm(r, device)
    nothing = squared_u * 0
    return torch.stack([nothing, squared_u, squared_r, squared_u, nothing, nothing])


def _rectify_piece_(u: Tensor, r: Tensor, granularity: str, rule: Rule, target: Tensor | None) -> Tensor:
    weight = _gate_weight(rule)
    if weight is not None and (granularity == "element" or u.ndim < 2):
        return _gate_(u, r, target, weight)
    wide = torch.promote_types(u.dtype, torch.float32)
    x, y = u.to(wide), r.to(wide)
    conflict = _conflict_of_blocks(x, y, granularity)
    before = conflict.dot.sum(), conflict.forget_norm.square().sum(), conflict.retain_norm.square().sum()

    a, b = rule(conflict)
    g = x * a + y * b
    left = _norms_of_blocks(g, granularity)
    numbers = torch.full((), x.numel() / max(1, left.numel()), device=x.device)
    nothing = is_rounding(left, (conflict.forget_norm * a).abs(), numbers, torch.finfo(wide).eps)
    g.masked_fill_(nothing, 0)
    after = left.masked_fill(nothing, 0).square().sum()

    if target is None:
        u.copy_(g)
    else:
        target.add_((x - g).to(target.dtype))
    return _column(*before, after, (conflict.dot < 0).sum(), conflict.dot.numel())


def _gate_weight(rule: Rule) -> float | None:
    """What a rule that is a gate on single numbers lets through of r where signs differ; None for all others."""
    if rule is gru:
        return 0.0
    if isinstance(rule, partial) and rule.func is sago:
        return float(rule.keywords["weight"])
    return None


def _gate_(u: Tensor, r: Tensor, target: Tensor | None, weight: float) -> Tensor:
    """What GRU (weight 0) and SAGO come to for a single number, in a tenth of the time: u where u·r ≥ 0, else
    weight · r."""
    wide = torch.promote_types(u.dtype, torch.float32)
    x, y = u.to(wide).reshape(-1), r.to(wide).reshape(-1)
    dot = x * y
    against = torch.lt(dot, 0, out=torch.empty_like(dot))  # 0 and 1 as floats: masks of bool are slow on a CPU
    removed = x * against
    forget_squared = torch.dot(x, x)
    before = dot.sum(), forget_squared, torch.dot(y, y)
    after = forget_squared - torch.dot(removed, removed)

    _take_(removed, u, target)
    if weight:  # what is left of u is exactly 0 by now
        added = torch.mul(y, against, out=removed).mul_(-weight)
        after = after + torch.dot(added, added)
        _take_(added, u, target)
    return _column(*before, after, against.sum(), x.numel())


def _take_(part: Tensor, u: Tensor, target: Tensor | None) -> None:
    """From u, or from what −u did to a target."""
    if target is None:
        u.sub_(part.view_as(u).to(u.dtype))
    else:
        target.add_(part.view_as(target).to(target.dtype))


def _column(dot: Tensor, forget: Tensor, retain: Tensor, rectified: Tensor, conflicts: Tensor, blocks: int) -> Tensor:
    """As float64 [6]."""
    counted = torch.full((), blocks, device=dot.device)
    return torch.stack([value.double() for value in (dot, forget, retain, rectified, conflicts, counted)])


def _conflict_of_blocks(x: Tensor, y: Tensor, granularity: str) -> Conflict:
    """Of each row, [rows, 1, ..], or of each number, shaped like x."""
    dot = x * y
    if granularity != "element" and x.ndim > 1:
        dot = dot.sum(dim=tuple(range(1, x.ndim)), keepdim=True)
    return Conflict(dot, _norms_of_blocks(x, granularity), _norms_of_blocks(y, granularity))


def _norms_of_blocks(x: Tensor, granularity: str) -> Tensor:
    """Likewise."""
    if granularity == "element" or x.ndim < 2:
        return x.abs()
    return torch.linalg.vector_norm(x, dim=tuple(range(1, x.ndim)), keepdim=True)


def _pieces(x: Tensor) -> tuple[Tensor, ...]:
    """Views of some rows each, together no more numbers than suit the device."""
    part = local(x).detach()
    if part.ndim == 0:
        part = part[None]
    numbers = _PIECE.get(part.device.type, _PIECE_ELSEWHERE)
    return part.split(max(1, numbers // max(1, math.prod(part.shape[1:]))))


def _squared_norm(x: Tensor | None, device: torch.device | None) -> Tensor:
    """Of this process's part, 0-dim float64."""
    if x is None:
        return torch.zeros((), dtype=torch.float64, device=device)
    part = local(x).detach()
    return torch.linalg.vector_norm(part, dtype=torch.promote_types(part.dtype, torch.float32)).double().square()
