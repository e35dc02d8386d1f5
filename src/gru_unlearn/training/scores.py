"""Log-probabilities of whole answers: reference scores of NPO, and the probabilities tracked along a run."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gru_unlearn.common.modules import evaluating
from gru_unlearn.data import Example, pad_examples
from gru_unlearn.objectives import token_logps


class AnswerLogps(NamedTuple):
    """Log-probabilities of each example's supervised tokens, on CPU: n float32 tensors [T_i]."""

    by_token: list[Tensor]

    @property
    def total(self) -> Tensor:
        """Their sums, [n]."""
        return torch.stack([logps.sum() for logps in self.by_token])

    @property
    def mean_probability(self) -> float:
        """exp(mean log p) of each answer, then the mean over answers: the field's "probability"."""
        return torch.stack([logps.mean().exp() for logps in self.by_token]).mean().item()


@torch.no_grad()
def answer_logps(
    model: nn.Module, examples: Sequence[Example], *, batch_size: int, pad_token_id: int, device: torch.device
) -> AnswerLogps:
    """Score every example once, longest first, with the model in evaluation mode (its mode is restored)."""
    order = sorted(range(len(examples)), key=lambda i: -len(examples[i]["input_ids"]))
    found: dict[int, Tensor] = {}
    with evaluating(model):
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            padded = pad_examples([examples[i] for i in rows], pad_token_id)
            batch = {name: values.to(device) for name, values in padded.items()}
            logps, mask = token_logps(model, batch["input_ids"], batch["attention_mask"], batch["labels"])
            for row, its_logps, length in zip(rows, logps.cpu(), mask.sum(dim=1).tolist(), strict=True):
                found[row] = its_logps[:length]
    return AnswerLogps([found[row] for row in range(len(examples))])
