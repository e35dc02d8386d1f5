"""Negated and rectified task vectors, streamed from checkpoint folders to a checkpoint folder.

With T_i = θ_i − θ (tuned on group i of the forget rows) and R_i = θ_{−i} − θ (tuned on all other groups):

    T̃_i = T_i − max(0, ⟨T_i, R_i⟩)/‖R_i‖² · R_i
    θ_unlearned = θ − α Σ_i T̃_i

Moving along −T_i undoes what R_i stands for when ⟨−T_i, R_i⟩ < 0: this is the closed form of
:mod:`gru_unlearn.geometry.closed_form` with u = −T_i and r = R_i. The idea is that of arXiv 2503.09117 (TRU); how rows
are grouped and the signs are our reading of it.

Two passes over the shards: inner products first (float64), then the result. Only a few tensors of float32 (float64 for
float64 models) and one shard of the result are in memory at a time, however large and many the models are.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gru_unlearn.errors import NonFiniteError, UserError, nearest
from gru_unlearn.geometry import inner_product, remove_conflict_
from gru_unlearn.task_vectors.checkpoint import Checkpoint, write_like

GRANULARITIES = ("model", "tensor")
"""One projection over all parameters as one vector, or one for each tensor."""

Folder = str | Path
Products = dict[str, Tensor]
"""Tensor's name → float64 [G, 3]: ⟨T_i, R_i⟩, ‖T_i‖², ‖R_i‖² over this tensor alone."""


@dataclass(frozen=True, slots=True)
class GroupConflict:
    """How one group's task vector T and that of all other groups, R, lie to each other, over the whole model."""

    inner_product: float
    """⟨T, R⟩; positive: negating T would undo part of R, so that part is taken out"""
    group_norm: float
    """‖T‖"""
    rest_norm: float
    """‖R‖"""

    @property
    def cosine(self) -> float:
        """cos(T, R), 0 where either is zero."""
        norms = self.group_norm * self.rest_norm
        if norms == 0:
            return 0.0
        return self.inner_product / norms


def rectify_task_vectors(
    target: Folder,
    group_models: Sequence[Folder],
    rest_models: Sequence[Folder],
    out: Folder,
    alpha: float,
    *,
    rectified: bool = True,
    granularity: str = "model",
) -> None:
    """Write θ − α Σ T̃_i, in the layout, types and with the other files of ``target``.

    Args:
        target: model folder, θ.
        group_models: model folders, tuned from ``target`` on one group each. Types may differ from the target's.
        rest_models: in the same order, tuned on all rows outside that group; not looked at unless ``rectified``.
        out: folder to write, new or empty; whole or not at all.
        alpha: α, finite.
        rectified: off: θ − α Σ T_i; with a single model tuned on all rows, plain negation (arXiv 2212.04089).
        granularity: ``model`` (one projection) or ``tensor`` (one for each tensor).

    Raises:
        UserError: settings that cannot work, folders that are no models, or models that do not fit each other.
        NonFiniteError: a model, or the result in the target's type, has a NaN or an infinity; nothing is written.
    """
    _check_alpha(alpha)
    base = Checkpoint.open(target)
    total = _vector_sum(base, group_models, rest_models, rectified, granularity)
    write_like(base, Path(out), lambda name: _moved(base.read(name), total(name), alpha))


def save_task_vector(
    target: Folder,
    group_models: Sequence[Folder],
    rest_models: Sequence[Folder],
    out: Folder,
    *,
    rectified: bool = True,
    granularity: str = "model",
) -> None:
    """Write Σ T̃_i itself, in float32 (float64 where a model is), in the layout of ``target``: many α can then be tried
    with :func:`negate_task_vector`, without the tuned models. Arguments and errors as in :func:`rectify_task_vectors`.
    """
    base = Checkpoint.open(target)
    total = _vector_sum(base, group_models, rest_models, rectified, granularity)
    write_like(base, Path(out), total, with_configuration=False)


def negate_task_vector(target: Folder, vector: Folder, out: Folder, alpha: float) -> None:
    """Write θ − α · v, v from :func:`save_task_vector`, in the layout, types and with the other files of ``target``.

    Raises:
        UserError: α is not finite, a folder is no model, or the two do not fit each other.
        NonFiniteError: the result in the target's type has a NaN or an infinity; nothing is written.
    """
    _check_alpha(alpha)
    base, change = Checkpoint.open(target), Checkpoint.open(vector)
    change.require_like(base)
    write_like(base, Path(out), lambda name: _moved(base.read(name), change.read(name), alpha))


def measure_conflicts(
    target: Folder, group_models: Sequence[Folder], rest_models: Sequence[Folder]
) -> list[GroupConflict]:
    """The geometry of T_i and R_i for each group, from one pass over the shards. Errors as the first pass of
    :func:`rectify_task_vectors`."""
    products = _measure_products(*_open_all(Checkpoint.open(target), group_models, rest_models))
    sums = torch.stack(list(products.values())).sum(dim=0)  # [G, 3]
    return [GroupConflict(dot, math.sqrt(group), math.sqrt(rest)) for dot, group, rest in sums.tolist()]


def _check_alpha(alpha: float) -> None:
    if not math.isfinite(alpha):
        raise UserError(f"alpha must be finite, got {alpha}")


def _open_all(
    base: Checkpoint, group_models: Sequence[Folder], rest_models: Sequence[Folder]
) -> tuple[Checkpoint, list[Checkpoint], list[Checkpoint]]:
    if len(group_models) != len(rest_models):
        raise UserError(
            f"{len(group_models)} models of groups and {len(rest_models)} of the other rows: one of each for a group"
        )
    return base, _open_like(base, group_models), _open_like(base, rest_models)


def _open_like(base: Checkpoint, folders: Sequence[Folder]) -> list[Checkpoint]:
    if not folders:
        raise UserError("no tuned model given: a task vector needs at least one")
    opened = [Checkpoint.open(folder) for folder in folders]
    for checkpoint in opened:
        checkpoint.require_like(base)
    return opened


def _vector_sum(
    base: Checkpoint, group_models: Sequence[Folder], rest_models: Sequence[Folder], rectified: bool, granularity: str
) -> Callable[[str], Tensor]:
    """Check everything, take the first pass if rectifying, and return name → Σ T̃_i of that tensor."""
    if granularity not in GRANULARITIES:
        raise UserError(f"unknown granularity {granularity!r}{nearest(granularity, GRANULARITIES)}")
    if not rectified:
        groups = _open_like(base, group_models)
        return lambda name: _rectified_sum(base, groups, groups, name, torch.zeros(len(groups)))
    base, groups, rests = _open_all(base, group_models, rest_models)
    coefficients = _coefficients(_measure_products(base, groups, rests), granularity)
    return lambda name: _rectified_sum(base, groups, rests, name, coefficients[name])


def _measure_products(base: Checkpoint, groups: Sequence[Checkpoint], rests: Sequence[Checkpoint]) -> Products:
    """What the first pass finds, tensor by tensor."""
    products = {}
    for name in base.file_of:
        start = base.read(name)
        rows = []
        for group, rest in zip(groups, rests, strict=True):
            t, r = _task_vector(group, name, start), _task_vector(rest, name, start)
            pairs = (t, r), (t, t), (r, r)
            rows.append(torch.stack([inner_product([x], [y], torch.float64) for x, y in pairs]))
        products[name] = torch.stack(rows)
    return products


def _coefficients(products: Products, granularity: str) -> dict[str, Tensor]:
    """Name → [G], the multiple of R_i to take from T_i in this tensor."""
    if granularity == "model":
        whole = _coefficient(torch.stack(list(products.values())).sum(dim=0))
        return dict.fromkeys(products, whole)
    return {name: _coefficient(parts) for name, parts in products.items()}


def _coefficient(parts: Tensor) -> Tensor:
    """max(0, ⟨T, R⟩)/‖R‖² from ``parts [G, 3]``, and 0 where R is zero."""
    dot, _, rest_squared = parts.unbind(dim=1)
    moved = rest_squared > 0
    return torch.where(moved, dot.clamp(min=0) / torch.where(moved, rest_squared, 1.0), 0.0)


def _rectified_sum(
    base: Checkpoint, groups: Sequence[Checkpoint], rests: Sequence[Checkpoint], name: str, coefficients: Tensor
) -> Tensor:
    """Σ T̃_i of one tensor; R_i is not read where its coefficient is 0."""
    start = base.read(name)
    total = torch.zeros_like(start, dtype=_wide(start.dtype))
    for group, rest, coefficient in zip(groups, rests, coefficients, strict=True):
        t = _task_vector(group, name, start)
        if coefficient > 0:
            remove_conflict_([t], [_task_vector(rest, name, start)], coefficient)
        total = total + t
    return total


def _task_vector(tuned: Checkpoint, name: str, start: Tensor) -> Tensor:
    """θ_tuned − θ for one tensor, in float32 or wider."""
    end = tuned.read(name)
    wide = _wide(torch.promote_types(start.dtype, end.dtype))
    vector = end.to(wide) - start.to(wide)
    if not torch.isfinite(vector).all():
        raise NonFiniteError(
            f"{tuned.folder}: {name} differs from the target's by NaN or infinity; nothing was written"
        )
    return vector


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _moved(start: Tensor, vector: Tensor, alpha: float) -> Tensor:
    """θ − α · v in the type of θ. Integer buffers, which no fine-tuning moves, stay as they are."""
    if not start.is_floating_point():
        return start
    return (start.to(vector.dtype) - alpha * vector).to(start.dtype)
