"""Which answers a model says word for word: each token of them is the one that it finds most likely."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gru_unlearn.common.modules import evaluating
from gru_unlearn.data import Example, pad_examples
from gru_unlearn.objectives.token_logps import supervised_logits, supervised_positions, supervised_targets

MOST_ASKED = 64
"""Evenly spread rows of a set whose answers a verdict counts, and a run along its way."""


@torch.no_grad()
def said_word_for_word(
    model: nn.Module, examples: Sequence[Example], *, batch_size: int, pad_token_id: int, device: torch.device
) -> list[bool]:
    """Of each example, whether greedy generation from its prompt would give the answer and its end, to the token.

    It would if every token of the answer is the most likely one behind those before it, so one forward pass shows it.
    The model's mode is restored. No random number is taken.
    """
    order = sorted(range(len(examples)), key=lambda i: -len(examples[i]["input_ids"]))
    said = [False] * len(examples)
    with evaluating(model):
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            padded = pad_examples([examples[i] for i in rows], pad_token_id)
            found = _all_most_likely(model, {name: values.to(device) for name, values in padded.items()})
            for row, value in zip(rows, found.tolist(), strict=True):
                said[row] = value
    return said


def _all_most_likely(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Of each row, whether all its supervised tokens are the most likely ones: [B]."""
    labels = batch["labels"]
    where = supervised_positions(labels)
    logits = supervised_logits(model, batch["input_ids"], batch["attention_mask"], labels, where)
    is_likeliest = logits.argmax(dim=-1) == supervised_targets(labels, where)  # [N]
    placed = torch.ones_like(where["mask"]).flatten().index_copy(0, where["slots"], is_likeliest)
    return placed.view_as(where["mask"]).all(dim=1)
