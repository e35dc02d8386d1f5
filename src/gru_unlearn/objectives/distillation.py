"""Forget objectives that teach a distribution over the whole vocabulary in which the true token is suppressed."""

import torch
import torch.nn.functional as F
from torch import Tensor

from gru_unlearn.objectives.retain import merged_logps


def undial(logits: Tensor, targets: Tensor, reference_logits: Tensor, beta: float = 10.0) -> Tensor:
    """Self-distillation on adjusted logits: H(softmax(z_ref − β · onehot(y)), softmax(z)) per token, [1, N].

    H(q, p) = −Σ q log p. Source: Dong et al., arXiv 2402.10052; β = 10 as in OpenUnlearning's configuration (the
    authors' code defaults to 5, its examples use 3). The authors' code and OpenUnlearning's take the mean over all
    positions, prompt and padding too; here only supervised tokens count, as in all other objectives. Where every
    position is supervised, the two are equal.
    """
    lowered = torch.full((len(targets), 1), -beta, dtype=torch.float32, device=logits.device)
    adjusted = reference_logits.detach().float().scatter_add(1, targets[:, None], lowered)
    return F.cross_entropy(logits.float(), adjusted.softmax(dim=-1), reduction="none")[None]


def undial_anchor(
    logits: Tensor, targets: Tensor, anchor_logps: Tensor, anchor_tokens: Tensor, beta: float = 10.0
) -> Tensor:
    """:func:`undial` over the K likeliest tokens of the model before, and all others taken as one: per token, [1, N].

    What it needs of that model is scored once, so that no second model is kept and none is asked at each step. A true
    token that is not among the K likeliest is as good as forgotten already, and is left with the others.
    """
    is_true = anchor_tokens == targets[:, None]
    lowered = F.pad(-beta * is_true.float(), (0, 1))  # all others together stand last
    teacher = (anchor_logps.float() + lowered).softmax(dim=-1)
    return -(teacher * merged_logps(logits, anchor_tokens)).sum(dim=-1)[None]


def ceu(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy unlearning: H(softmax(z with z_y = −∞), softmax(z)) per token, [1, N], the first held constant.

    Its gradient in the logits is p − q, q the teacher: largest where the true token is certain (gradient ascent's
    vanishes there) and fading as that token does (gradient ascent's does not). Source: Yang, arXiv 2503.01224.
    OpenUnlearning's trainer leaves out the first token of every answer by default, a setting it attributes to a
    footnote of the paper; here every answer token counts, as in the formula.
    """
    teacher = logits.detach().float().scatter(1, targets[:, None], float("-inf")).softmax(dim=-1)
    return F.cross_entropy(logits.float(), teacher, reduction="none")[None]
