"""Forget objectives on the answer's log-probabilities, to be minimised. Contract: see the package's docstring.

Where OpenUnlearning has a trainer of the same name, its loss of one batch is the mean of these values. Over several
micro-batches its mean is one of means, while the trainer here takes one mean over the whole accumulation window.
"""

import torch
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


def satimp(logps: Tensor, mask: Tensor, beta1: float = 5.0, beta2: float = 1.0) -> Tensor:
    """Saturation and importance: p^β₁ · (1 − p)^β₂ · log p per token, [B, T], with the weight held constant.

    The first factor spares tokens that are forgotten already, the second those that are near certain; β₂ = 0 is WGA.
    Source: Yang et al., arXiv 2505.11953; defaults of OpenUnlearning's trainer. The authors' code has no retain term
    in this objective and one of weight 0.1 in a second form of it.
    """
    p = logps.detach().exp()
    one_minus_p = -torch.expm1(logps.detach())  # exact where p is close to 1
    return p**beta1 * one_minus_p**beta2 * logps


def simnpo(logps: Tensor, mask: Tensor, beta: float = 4.5, delta: float = 0.0) -> Tensor:
    """NPO without a reference: −(2/β) · log σ(−(β/|y|) · log p − δ) per example, [B]; |y| counts the answer's tokens.

    Source: Fan et al., arXiv 2410.07163, eq. 4 (δ is its γ, renamed because γ is the retain gradient's weight here).
    The authors' code and OpenUnlearning's multiply the margin by β: their value m is δ = β · m here.
    """
    mean_logp = (logps * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
    return -2 / beta * F.logsigmoid(-beta * mean_logp - delta)


def npo(logps: Tensor, mask: Tensor, reference: Tensor, beta: float = 0.1) -> Tensor:
    """Negative preference optimisation: −(2/β) · log σ(−β · log(p/p_ref)) per example, [B].

    p is the probability of the whole answer, so log p is a sum over tokens, not a mean.
    Source: Zhang et al., arXiv 2404.05868, eq. 3; equal to the authors' code.
    """
    log_ratio = (logps * mask).sum(dim=1) - reference
    return -2 / beta * F.logsigmoid(-beta * log_ratio)


def tnpo(logps: Tensor, mask: Tensor, token_reference: Tensor, beta: float = 0.1) -> Tensor:
    """NPO token by token: −(2/β) · log σ(−β · log(p_t/p_ref,t)) per token, [B, T].

    Source: Wang et al., arXiv 2502.19301. The authors' code writes w_t · log p_t with the constant weight
    w_t = 2 p_t^β / (p_t^β + p_ref,t^β + 10⁻⁵), a loss of another value with the same gradient but for the 10⁻⁵.
    It sweeps β; 0.1 is what it fixes for the weighted form of this objective. w_t starts at 1, as in GA, and is down to
    a half where log(p_t/p_ref,t) = −ln(3)/β: −11 nats at 0.1, a long way for a single token.
    """
    return -2 / beta * F.logsigmoid(-beta * (logps - token_reference)) * mask
