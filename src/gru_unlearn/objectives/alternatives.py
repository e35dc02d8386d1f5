"""Forget objectives that put an alternative answer to the same prompt in the forget answer's place."""

import torch.nn.functional as F
from torch import Tensor

IDK_ANSWERS = (
    "I don't know.",
    "Sorry, I can't tell you that, because I don't know it.",
    "That is something I have never learned.",
    "I'm unable to answer this question.",
    "I have nothing reliable to say about that.",
    "My knowledge doesn't reach that far.",
    "I would only be guessing, so I'd rather not answer.",
    "I can't find an answer to that among the things I know.",
    "This is not something I know about.",
    "Unfortunately, the answer to this is unknown to me.",
    "I would have to look that up; I don't know it myself.",
    "No details about that have come my way.",
    "I don't have the facts needed to answer.",
    "You would be better off asking someone else: I don't know.",
    "I must admit that I don't know.",
    "About this I know nothing.",
    "Whatever the answer is, I don't know it.",
    "I have no record of that.",
    "That question goes past what I know.",
    "I can't say, since I know nothing about it.",
)
"""Refusals that can serve as alternative answers."""


def idk(alternative_logps: Tensor, alternative_mask: Tensor) -> Tensor:
    """Negative log-likelihood of the alternative, a refusal: −(1/|a|) · log p(a) per example, [B].

    Source: Maini et al., arXiv 2401.06121, whose loss also contains the retain rows. Its code takes one mean over the
    tokens of refusals and retain rows together; here every refusal counts alike, and the retain term is a mean of its
    own. The forget parts agree where the refusals of a batch have the same number of tokens.
    """
    return -(alternative_logps * alternative_mask).sum(dim=1) / alternative_mask.sum(dim=1).clamp(min=1)


def dpo(
    logps: Tensor,
    mask: Tensor,
    reference: Tensor,
    alternative_logps: Tensor,
    alternative_mask: Tensor,
    alternative_reference: Tensor,
    beta: float = 0.1,
) -> Tensor:
    """Direct preference optimisation: −(2/β) · log σ(β · [log(p(a)/p_ref(a)) − log(p(y)/p_ref(y))]) per example, [B].

    The alternative a is preferred over the forget answer y. Source: Rafailov et al., arXiv 2305.18290, eq. 7, for
    unlearning in Zhang et al., arXiv 2404.05868. The factor 2/β is that of the latter's code, AltPO's and
    OpenUnlearning's: it makes NPO the same loss without the part in a. Rafailov et al. and TOFU's code do without it,
    so that their loss is β/2 times this one.

    AltPO (Mekala et al., arXiv 2409.13474) is this function on alternates that a model has written, with a retain
    term of weight 1 as in the authors' configuration.
    """
    preferred = (alternative_logps * alternative_mask).sum(dim=1) - alternative_reference
    dispreferred = (logps * mask).sum(dim=1) - reference
    return -2 / beta * F.logsigmoid(beta * (preferred - dispreferred))
