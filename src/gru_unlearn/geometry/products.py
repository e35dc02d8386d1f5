"""Inner products of vectors that are lists of tensors: widened where narrow, summed over devices where sharded."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain

import torch
import torch.distributed as dist
from torch import Tensor

Vector = Sequence[Tensor | None]
"""One entry per parameter; None is zero."""

Factor = Tensor | float

# Low-precision tensors are widened piece by piece, so that the scratch memory does not grow with the tensor: on a
# processor in pieces that stay in its cache, on a GPU in pieces that keep it busy.
_CHUNK = {"cpu": 1 << 18}
_CHUNK_ELSEWHERE = 1 << 24


def inner_product(xs: Vector, ys: Vector, dtype: torch.dtype | None = None) -> Tensor:
    """⟨x, y⟩ over all tensors of two equally long lists, as a 0-dim tensor on the first pair's device.

    Args:
        xs, ys: tensors of pairwise equal shapes, None standing for zero; dtypes may differ from pair to pair. Sharded
            tensors (DTensor) give the product of the whole vectors, on every process.
        dtype: accumulate in this type; by default float32, or float64 where a tensor is float64.
    """
    return tensor_products([(xs, ys)], dtype)[0].sum()


def tensor_products(pairs: Sequence[tuple[Vector, Vector]], dtype: torch.dtype | None = None) -> Tensor:
    """⟨x_t, y_t⟩ for each pair of vectors and each tensor t: [pairs, T]. One all-reduce where tensors are sharded.

    Args:
        pairs: vectors of the same T parameters.
        dtype: as in :func:`inner_product`.
    """
    vectors = {id(vector): vector for vector in chain.from_iterable(pairs)}
    found: list[Tensor | None] = []
    groups = []
    device = None
    for parts in zip(*vectors.values(), strict=True):  # each tensor is asked for once: it may come from elsewhere
        at = dict(zip(vectors, parts, strict=True))
        found += [_dot(at[id(x)], at[id(y)], dtype) for x, y in pairs]

        some = next((part for part in parts if part is not None), None)
        groups.append(shard_groups(some))
        if device is None and some is not None:
            device = some.device

    if not found:
        return torch.zeros(len(pairs), 0)
    products = _stack(found, dtype or torch.float32, device).reshape(-1, len(pairs)).T
    return sum_shards(products, groups)


def _stack(found: Sequence[Tensor | None], dtype: torch.dtype, device: torch.device | None) -> Tensor:
    """0-dim tensors → one, in their widest type, by default ``dtype``."""
    kinds = {part.dtype for part in found if part is not None}
    widest = max(kinds, key=lambda kind: kind.itemsize, default=dtype)
    zero = torch.zeros((), dtype=widest, device=device)

    filled = [zero] * len(found)
    for number, part in enumerate(found):
        if part is not None:
            filled[number] = part.to(zero)
    return torch.stack(filled)


def local(x: Tensor) -> Tensor:
    """This process's part of a tensor: the tensor itself unless it is sharded."""
    return x.to_local() if hasattr(x, "to_local") else x


def sum_shards(values: Tensor, groups: "Sequence[Sequence[dist.ProcessGroup]]") -> Tensor:
    """Partial sums [.., T] → sums over all processes.

    Args:
        values: partial sums of T tensors.
        groups: of each of the T tensors, :func:`shard_groups`.
    """
    members: dict[dist.ProcessGroup, list[int]] = {}
    for number, its_groups in enumerate(groups):
        for group in its_groups:
            members.setdefault(group, []).append(number)

    for group, numbers in members.items():
        columns = indices(tuple(numbers), values.device)
        partial = values[..., columns].contiguous()
        dist.all_reduce(partial, group=group)
        values = values.index_copy(-1, columns, partial)
    return values


def shard_groups(x: Tensor | None) -> "list[dist.ProcessGroup]":
    """The processes that hold the parts of a DTensor, by dimension of its mesh; none for whole and replicated ones."""
    placements = getattr(x, "placements", ())
    return [x.device_mesh.get_group(i) for i, placed in enumerate(placements) if placed.is_shard()]  # type: ignore[union-attr]


def combine_(place: Tensor, scale: Factor, other: Tensor | None, factor: Factor) -> None:
    """place ← scale · place + factor · other, each number of a narrow type rounded once, at the end.

    Args:
        place, other: of one shape, sharded alike; None is zero.
        scale, factor: numbers or 0-dim tensors.
    """
    part = local(place).detach()
    along = None if other is None else local(other).detach()
    if torch.promote_types(part.dtype, torch.float32) == part.dtype:
        _combine_wide_(part, scale, along, factor)
        return
    if along is None:
        part.mul_(scale)
        return
    for x, y in pieces(part, along):
        wide = x.float()
        _combine_wide_(wide, scale, y, factor)
        x.copy_(wide)


def _combine_wide_(part: Tensor, scale: Factor, other: Tensor | None, factor: Factor) -> None:
    if not (isinstance(scale, float) and scale == 1):
        part.mul_(_like(scale, part))
    if other is not None:
        part.addcmul_(other.to(part.dtype), _like(factor, part))


def _like(factor: Factor, part: Tensor) -> Tensor:
    """As a 0-dim tensor that can be multiplied with a part of a vector."""
    if isinstance(factor, Tensor):
        return factor.to(part.device, part.dtype)
    return torch.full((), factor, device=part.device, dtype=part.dtype)


def pieces(*parts: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Views of tensors of one shape on one device, cut alike, each small enough for a temporary of its size."""
    size = _CHUNK.get(parts[0].device.type, _CHUNK_ELSEWHERE)
    if all(part.is_contiguous() for part in parts):
        flat = [part.view(-1) for part in parts]
        return zip(*(part.split(size) for part in flat), strict=True)
    rows = max(1, size // max(1, parts[0][0].numel()))
    return zip(*(part.split(rows) for part in parts), strict=True)


def all_finite(x: Tensor) -> Tensor:
    """Whether this process's part of a tensor holds neither NaN nor infinity: a 0-dim bool on its device.

    Numbers whose sum leaves the range of float32 count as infinite too: no norm could be taken of them.
    """
    part = local(x).detach()
    return part.sum(dtype=torch.promote_types(part.dtype, torch.float32)).isfinite()


@lru_cache(maxsize=32)
def indices(numbers: tuple[int, ...], device: torch.device) -> Tensor:
    """Whole numbers on a device; remembered, because a copy from the host makes it wait for the device."""
    return torch.tensor(numbers, device=device)


def _dot(x: Tensor | None, y: Tensor | None, dtype: torch.dtype | None) -> Tensor | None:
    if x is None or y is None:
        return None
    wide = dtype or torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    flat_x = local(x).detach().reshape(-1)
    flat_y = local(y).detach().reshape(-1)
    if flat_x.dtype == flat_y.dtype == wide:
        return torch.dot(flat_x, flat_y)

    chunk = _CHUNK.get(flat_x.device.type, _CHUNK_ELSEWHERE)
    pairs = zip(flat_x.split(chunk), flat_y.split(chunk), strict=True)
    return torch.stack([torch.dot(a.to(wide), b.to(wide)) for a, b in pairs]).sum()
