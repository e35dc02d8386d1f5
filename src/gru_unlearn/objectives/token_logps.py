"""From a causal language model to the log-probabilities of answer tokens, with logits only where a label is."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IGNORE_INDEX = -100
"""Label of a token that is not supervised (the convention of PyTorch and transformers)."""


def supervised_logits(model: nn.Module, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
    """Logits that predict the supervised tokens, row after row: [N, V], N = number of labels kept.

    The head sees only the N hidden states before a supervised token: prompts and padding cost no logits. This goes
    through the model's own forward, so caps and scales on the logits, adapters and wrappers all apply.

    Args:
        model: causal language model of transformers (or a wrapper with it in ``.module``).
        input_ids, attention_mask: [B, L].
        labels: [B, L], the token itself where supervised, ``IGNORE_INDEX`` elsewhere; not shifted.
    """
    predicts = F.pad(labels[:, 1:] != IGNORE_INDEX, (0, 1))  # [B, L]: does position t predict a supervised token?
    with head_only_at(model, predicts):
        output: Any = model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
    return output.logits[0]


def token_logps(model: nn.Module, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probability of each supervised token: float32 ``logps [B, T]`` and boolean ``mask [B, T]``.

    T is the largest number of supervised tokens in a row; rows are left-aligned and zero-padded.
    Arguments as in :func:`supervised_logits`.
    """
    logits = supervised_logits(model, input_ids, attention_mask, labels)
    return gather_logps(logits, labels)


def gather_logps(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """``logits [N, V]`` of :func:`supervised_logits` and ``labels [B, L]`` → ``logps [B, T]``, ``mask [B, T]``."""
    targets = labels[:, 1:]
    kept = targets != IGNORE_INDEX
    flat = -F.cross_entropy(logits.float(), targets[kept], reduction="none")  # [N]
    lengths = kept.sum(dim=1)
    mask = torch.arange(int(lengths.max()), device=labels.device) < lengths[:, None]
    return torch.zeros(mask.shape, device=flat.device).masked_scatter(mask, flat), mask


@contextmanager
def head_only_at(model: nn.Module, positions: Tensor) -> Iterator[None]:
    """Inside, the model's output head receives [1, N, H] instead of [B, L, H]: the N hidden states where ``positions
    [B, L]`` is true, row after row."""
    inner: Any = model
    while not hasattr(inner, "get_output_embeddings"):
        inner = inner.module
    head = inner.get_output_embeddings()

    def select(_head: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden, *rest = args
        return (hidden[positions.to(hidden.device)][None], *rest)

    hook = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        hook.remove()
