"""Weights rounded to few bits, as when a model is made smaller to be deployed; kept as numbers of their old type.

Unlearning that moves weights by less than half a step of the grid is undone by rounding to it (Zhang et al.,
Catastrophic Failure of LLM Unlearning via Quantization, arXiv 2410.16454).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D


def round_to_bits(weight: Tensor, bits: int, group_size: int | None = None) -> Tensor:
    """Symmetric round-to-nearest: each group of weights on a grid of 2^bits - 1 points from -max to max of their size.

    Args:
        weight: [O, I], one row per output.
        bits: 2 or more.
        group_size: how many neighbouring inputs share one scale; the last group of a row may be smaller. None: the row.

    Returns:
        [O, I], of the type of ``weight``; the rounding itself is done in float32.
    """
    rows, inputs = weight.shape
    size = group_size or inputs
    groups = F.pad(weight.float(), (0, -inputs % size)).view(rows, -1, size)
    levels = 2 ** (bits - 1) - 1
    scales = groups.abs().amax(dim=-1, keepdim=True) / levels
    rounded = (groups / scales.clamp(min=torch.finfo(torch.float32).tiny)).round() * scales
    return rounded.reshape(rows, -1)[:, :inputs].to(weight.dtype)


NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
"""The 16 points of 4-bit NormalFloat (Dettmers et al., arXiv 2305.14314, appendix E): quantiles of a normal
distribution, those below 0 and those above taken apart, so that 0 is one of them."""


def round_to_normal_float(weight: Tensor, group_size: int = 64) -> Tensor:
    """Each weight to the nearest point of NF4, times the largest size in its group; scales stay as they are.

    Args:
        weight: [O, I], one row per output.
        group_size: how many neighbouring numbers share one scale; as in bitsandbytes, groups run on from row to row.

    Returns:
        [O, I], of the type of ``weight``.
    """
    values = weight.float().flatten()
    groups = F.pad(values, (0, -len(values) % group_size)).view(-1, group_size)
    scales = groups.abs().amax(dim=-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    points = torch.tensor(NF4, device=weight.device)
    nearest = torch.bucketize(groups / scales, (points[1:] + points[:-1]) / 2)
    return (points[nearest] * scales).flatten()[: len(values)].view(weight.shape).to(weight.dtype)


def rounder(bits: int, group_size: int | None = None) -> Callable[[Tensor], Tensor]:
    """Symmetric round-to-nearest: :func:`round_to_bits`."""
    return partial(round_to_bits, bits=bits, group_size=group_size)


@torch.no_grad()
def round_weights(model: nn.Module, rounded: Callable[[Tensor], Tensor]) -> int:
    """Round the weights of all linear layers in place; returns how many numbers that were.

    Args:
        model: to change.
        rounded: from a weight [O, I] to what it becomes.

    Embeddings, norms, biases and the output head stay as they are, as in the usual quantized models.
    """
    inner: Any = model
    head = inner.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    count = 0
    for module in model.modules():
        if isinstance(module, nn.Linear) and module is not head:
            module.weight.copy_(rounded(module.weight))
        elif isinstance(module, Conv1D):  # GPT-2's linear layer, stored as [I, O]
            module.weight.copy_(rounded(module.weight.T).T)
        else:
            continue
        count += module.weight.numel()
    return count
