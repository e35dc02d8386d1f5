"""What Adam and its like know of each number: a moving mean of its squared gradients, and what they divide by."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gru_unlearn.geometry.products import Vector


def squares_of(optimizer: torch.optim.Optimizer, params: Sequence[nn.Parameter]) -> Vector:
    """v, Adam's moving mean of squared gradients; None where the optimizer holds none (yet)."""
    return [optimizer.state.get(param, {}).get("exp_avg_sq") for param in params]


def preconditioner(optimizer: torch.optim.Optimizer, params: Sequence[nn.Parameter]) -> Vector | None:
    """Adam's diagonal preconditioner, 1/(√v + ε), of the last step; None where the optimizer has none (yet)."""
    squares = squares_of(optimizer, params)
    if all(v is None for v in squares):
        return None
    eps: dict[nn.Parameter, float] = {}
    for group in optimizer.param_groups:
        eps |= dict.fromkeys(group["params"], group.get("eps", 1e-8))
    return [_inverse_root(v, eps[p]) for v, p in zip(squares, params, strict=True)]


def _inverse_root(v: Tensor | None, eps: float) -> Tensor | None:
    if v is None:
        return None
    return 1 / (v.sqrt() + eps)
