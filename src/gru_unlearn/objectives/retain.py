"""Retain losses on the output, to be minimised. RMU's own is in :mod:`activations`."""

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
