"""Retain losses, to be minimised."""

import torch.nn.functional as F
from torch import Tensor


def nll(logps: Tensor, mask: Tensor) -> Tensor:
    """Negative log-likelihood: −log p per token, [B, T]."""
    return -logps


def kl(logits: Tensor, reference_logits: Tensor) -> Tensor:
    """KL(p_ref ‖ p) per token, [N], from ``logits [N, V]`` of the model and of the model before unlearning."""
    log_p = F.log_softmax(logits.float(), dim=-1)
    log_ref = F.log_softmax(reference_logits.float(), dim=-1)
    return F.kl_div(log_p, log_ref, reduction="none", log_target=True).sum(dim=-1)
