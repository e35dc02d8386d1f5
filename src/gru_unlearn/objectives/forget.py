"""Forget objectives, to be minimised. Shapes and contract: see the package's docstring."""

import torch.nn.functional as F
from torch import Tensor


def ga(logps: Tensor, mask: Tensor) -> Tensor:
    """Gradient ascent on the negative log-likelihood: log p per token, [B, T].

    Source: Jang et al., arXiv 2210.01504; with a retain term it is GradDiff (Liu et al., arXiv 2203.12817).
    """
    return logps


def wga(logps: Tensor, mask: Tensor, beta: float = 1.0) -> Tensor:
    """Weighted gradient ascent: p^β · log p per token, [B, T], with p^β held constant.

    Tokens that are already improbable stop driving the model away. Source: Wang et al., arXiv 2502.19301.
    """
    return (beta * logps.detach()).exp() * logps


def npo(logps: Tensor, mask: Tensor, reference: Tensor, beta: float = 0.1) -> Tensor:
    """Negative preference optimisation: −(2/β) · log σ(−β · log(p/p_ref)) per example, [B].

    ``reference [B]``: summed log-probability of each answer under the model before unlearning.
    Source: Zhang et al., arXiv 2404.05868, eq. 3.
    """
    log_ratio = (logps * mask).sum(dim=1) - reference
    return -2 / beta * F.logsigmoid(-beta * log_ratio)


def simnpo(logps: Tensor, mask: Tensor, beta: float = 4.5, delta: float = 0.0) -> Tensor:
    """NPO without a reference: −(2/β) · log σ(−(β/|y|) · log p − δ) per example, [B]; |y| counts the answer's tokens.

    Source: Fan et al., arXiv 2410.07163, eq. 4 (δ is its γ, renamed because γ is the retain gradient's weight here).
    """
    mean_logp = (logps * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
    return -2 / beta * F.logsigmoid(-beta * mean_logp - delta)
