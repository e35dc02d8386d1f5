"""Weights rounded to few bits, as when a model is made smaller to be deployed; kept as numbers of their old type.

Unlearning that moves weights by less than half a step of the grid is undone by rounding to it (Zhang et al.,
Catastrophic Failure of LLM Unlearning via Quantization, arXiv 2410.16454).
"""

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


@torch.no_grad()
def quantize_weights(model: nn.Module, bits: int, group_size: int | None = None) -> int:
    """Round the weights of all linear layers in place; returns how many numbers that were.

    Embeddings, norms, biases and the output head stay as they are, as in the usual quantized models.
    """
    inner: Any = model
    head = inner.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    count = 0
    for module in model.modules():
        if isinstance(module, nn.Linear) and module is not head:
            module.weight.copy_(round_to_bits(module.weight, bits, group_size))
        elif isinstance(module, Conv1D):  # GPT-2's linear layer, stored as [I, O]
            module.weight.copy_(round_to_bits(module.weight.T, bits, group_size).T)
        else:
            continue
        count += module.weight.numel()
    return count
