"""Log-probabilities of whole answers: reference scores of NPO, and the probabilities tracked along a run."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gru_unlearn.data import Example, collate
from gru_unlearn.objectives import token_logps


class AnswerLogps(NamedTuple):
    """Summed log-probability of each example's supervised tokens and their number: two float32 tensors [n], on CPU."""

    total: Tensor
    tokens: Tensor

    @property
    def mean_probability(self) -> float:
        """exp(mean log p) of each answer, then the mean over answers: the field's "probability"."""
        return (self.total / self.tokens).exp().mean().item()


@torch.no_grad()
def answer_logps(
    model: nn.Module, examples: Sequence[Example], *, batch_size: int, pad_token_id: int, device: torch.device
) -> AnswerLogps:
    """Score every example once, longest first, with the model in evaluation mode (its mode is restored)."""
    order = sorted(range(len(examples)), key=lambda i: -len(examples[i]["input_ids"]))
    total, tokens = torch.zeros(len(examples)), torch.zeros(len(examples))
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = collate([examples[i] for i in rows], pad_token_id)
            inputs = {key: batch[key].to(device) for key in ("input_ids", "attention_mask", "labels")}
            logps, mask = token_logps(model, **inputs)
            total[rows], tokens[rows] = logps.sum(dim=1).cpu(), mask.sum(dim=1).float().cpu()
    finally:
        model.train(was_training)
    return AnswerLogps(total, tokens)
