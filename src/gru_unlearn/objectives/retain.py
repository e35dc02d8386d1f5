"""Retain losses on the output, to be minimised. RMU's own is in :mod:`activations`."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def nll(logps: Tensor, mask: Tensor) -> Tensor:
    """Negative log-likelihood: −log p per token, [B, T]."""
    return -logps


def kl(logits: Tensor, reference_logits: Tensor) -> Tensor:
    """KL(p_ref ‖ p) per token, [1, N].

    OpenUnlearning's mean runs over all positions, prompt and padding too; here only supervised tokens count.
    """
    log_p = F.log_softmax(logits.float(), dim=-1)
    log_ref = F.log_softmax(reference_logits.float(), dim=-1)
    return F.kl_div(log_p, log_ref, reduction="none", log_target=True).sum(dim=-1)[None]


def anchor(logits: Tensor, anchor_logps: Tensor, anchor_tokens: Tensor) -> Tensor:
    """KL(p_ref ‖ p) per token, [1, N], over the K likeliest tokens of p_ref and all others taken as one.

    Never more than :func:`kl`, because taking outcomes together loses what tells them apart, and next to it where
    p_ref is sure of itself. What it needs of the model before unlearning is small enough to be scored once, so that
    no second model is kept and none is asked at each step.
    """
    merged = merged_logps(logits, anchor_tokens)
    return F.kl_div(merged, anchor_logps.float(), reduction="none", log_target=True).sum(dim=-1)[None]


def merged_logps(logits: Tensor, tokens: Tensor) -> Tensor:
    """Log-probabilities [N, K+1]: of K tokens for each of N positions, and last of all others together."""
    log_p = F.log_softmax(logits.float(), dim=-1)
    named = tokens.long()
    others = log_p.scatter(-1, named, -math.inf).logsumexp(dim=-1, keepdim=True)
    return torch.cat([log_p.gather(-1, named), others], dim=-1)


def anchors_of(logits: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """What :func:`anchor` needs of the model before unlearning: ``anchor_logps [N, K+1]``, ``anchor_tokens [N, K]``.

    Args:
        logits: [N, V] of that model.
        most: K, made smaller where the vocabulary is: there must be others.
    """
    tokens = logits.topk(min(most, logits.shape[-1] - 1), dim=-1).indices
    return merged_logps(logits, tokens), tokens.int()
