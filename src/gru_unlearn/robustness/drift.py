"""Carry the weights away, each matrix along a random direction of its own that stays the same over the whole run.

Relearning succeeds where the unlearned model is still close to the one that knew: distance in weight space predicts
how well a model withstands it (Siddiqui et al., arXiv 2505.22310, who distort weights and train on). Here the distance
is made step by step, and whoever rectifies the step takes out of it what would harm retention. Distance alone does not
help: without a rectification of the step it harms, and relearning succeeds as before.

    Δθ ← Δθ + η · c · ζ,   ζ of independent random signs, one for each number of a matrix

with η the learning rate. Cost: one addition, and one byte of memory for each number.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


def random_signs(shapes: Iterable[torch.Size], seed: int) -> list[Tensor]:
    """±1 as int8 for tensors of these shapes: the same for the same shapes and seed, on every device."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.empty(shape, dtype=torch.int8).random_(0, 2, generator=generator) * 2 - 1 for shape in shapes]
