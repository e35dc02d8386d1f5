"""From a causal language model to the log-probabilities of answer tokens, with logits only where a label is."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gru_unlearn.common.modules import logits_alone

IGNORE_INDEX = -100
"""Label of a token that is not supervised (the convention of PyTorch and transformers)."""


class Supervised(TypedDict):
    """Where the supervised tokens of a batch are, row after row; positions count through all of [B, L].

    How many there are decides shapes, and a GPU that is asked for it keeps the program waiting. So
    :func:`supervised_positions` is best called before a batch goes there; nothing more needs to be asked then.
    """

    tokens: Tensor
    """positions of the supervised tokens, int64 [M]"""
    predicting: Tensor
    """positions whose logits predict one, int64 [N]: each lies before its token. A row's first token has none."""
    slots: Tensor
    """places of the N in [B, T], T the largest number of them in a row: int64 [N]"""
    mask: Tensor
    """which places of [B, T] are taken: boolean, left-aligned"""


def supervised_positions(labels: Tensor) -> Supervised:
    """Locate ``labels [B, L]`` other than ``IGNORE_INDEX``."""
    kept = labels != IGNORE_INDEX
    before = F.pad(kept[:, 1:], (0, 1))  # [B, L]: does position t predict a supervised token?
    lengths = before.sum(dim=1)
    mask = torch.arange(int(lengths.max()), device=labels.device) < lengths[:, None]
    tokens, predicting, slots = (where.flatten().nonzero().squeeze(1) for where in (kept, before, mask))
    return {"tokens": tokens, "predicting": predicting, "slots": slots, "mask": mask}


def supervised_logits(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    labels: Tensor,
    supervised: Supervised | None = None,
) -> Tensor:
    """Logits that predict the supervised tokens, row after row: [N, V], N = number of labels kept.

    The head sees only the N hidden states before a supervised token: prompts and padding cost no logits. This goes
    through the model's own forward, so caps and scales on the logits, adapters and wrappers all apply.

    Args:
        model: causal language model of transformers (or a wrapper with it in ``.module``).
        input_ids, attention_mask: [B, L]; None, all positions are attended to (as far as the model is causal).
        labels: [B, L], the token itself where supervised, ``IGNORE_INDEX`` elsewhere; not shifted.
        supervised: :func:`supervised_positions` of the labels, moved to the model's device; by default found here.
    """
    where = supervised or supervised_positions(labels)
    output = forward_at(model, where["predicting"], input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
    return output.logits[0]


def token_logps(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    labels: Tensor,
    supervised: Supervised | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-probability of each supervised token: float32 ``logps [B, T]`` and boolean ``mask [B, T]``.

    T is the largest number of supervised tokens in a row; rows are left-aligned and zero-padded.
    Arguments as in :func:`supervised_logits`.
    """
    where = supervised or supervised_positions(labels)
    logits = supervised_logits(model, input_ids, attention_mask, labels, where)
    return gather_logps(logits, labels, where)


def gather_logps(logits: Tensor, labels: Tensor, supervised: Supervised | None = None) -> tuple[Tensor, Tensor]:
    """``logits [N, V]`` of :func:`supervised_logits` and ``labels [B, L]`` → ``logps [B, T]``, ``mask [B, T]``."""
    where = supervised or supervised_positions(labels)
    mask = where["mask"]
    flat = -F.cross_entropy(logits.float(), supervised_targets(labels, where), reduction="none")  # [N]
    placed = flat.new_zeros(mask.numel()).index_copy(0, where["slots"], flat)
    return placed.view(mask.shape), mask


def supervised_targets(labels: Tensor, supervised: Supervised) -> Tensor:
    """The N supervised tokens that are predicted, in the order of the logits: [N]."""
    return labels.flatten().index_select(0, supervised["predicting"] + 1)


def forward_at(model: nn.Module, positions: Tensor, **inputs: Any) -> Any:
    """A forward pass whose logits stand at N positions alone: the model's output, with ``logits`` [1, N, V].

    Args:
        model: as in :func:`supervised_logits`.
        positions: as in :func:`head_only_at`.
        inputs: of the model, with ``input_ids`` [B, L].
    """
    with head_only_at(model, positions):
        output: Any = model(**inputs, **logits_alone(model))
    everywhere = inputs["input_ids"].shape
    if output.logits.shape[:2] == everywhere:  # the model does without calling its head: all logits, and then a choice
        output.logits = _selected(output.logits, positions)
    return output


def _selected(values: Tensor, positions: Tensor) -> Tensor:
    """[B, L, n] at N positions: [1, N, n]."""
    where = positions.to(values.device)
    if where.dtype == torch.bool:
        return values[where][None]
    return values.flatten(0, 1).index_select(0, where)[None]


@contextmanager
def head_only_at(model: nn.Module, positions: Tensor) -> Iterator[None]:
    """Inside, the model's output head receives [1, N, H] instead of [B, L, H]: N of the hidden states, row after row.

    Args:
        model: as in :func:`supervised_logits`.
        positions: where, as a boolean [B, L], or as N positions that count through all of [B, L].
    """
    inner: Any = model
    compiled = hasattr(model, "_orig_mod")
    while not hasattr(inner, "get_output_embeddings"):
        inner = inner.module
        compiled = compiled or hasattr(inner, "_orig_mod")
    head = inner.get_output_embeddings()

    def select(_head: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden, *rest = args
        return (_selected(hidden, positions), *rest)

    # A compiled model would be compiled anew for each N: so it is left here, and entered again at the head.
    hook = head.register_forward_pre_hook(torch.compiler.disable(select) if compiled else select)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def computed_only_at(module: nn.Module, positions: Tensor) -> Iterator[None]:
    """Inside, a module from [B, L, H] to [B, L, H] that treats each position by itself is given N of them as [1, N, H];
    elsewhere its output is zero.

    Args:
        module: such as the MLP of a layer.
        positions: N positions that count through all of [B, L], on the module's device.
    """

    def narrow(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden, *rest = args
        places.append(hidden.shape[:2])
        return (hidden.flatten(0, 1).index_select(0, positions)[None], *rest)

    def widen(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        place = places.pop()
        return output.new_zeros(place.numel(), output.shape[-1]).index_copy(0, positions, output[0]).unflatten(0, place)

    places: list[torch.Size] = []
    hooks = module.register_forward_pre_hook(narrow), module.register_forward_hook(widen)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
