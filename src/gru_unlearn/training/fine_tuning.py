"""Plain fine-tuning: AdamW on the mean cross-entropy of answer tokens, one batch a step."""

import math
from collections.abc import Callable, Sequence
from random import Random

import torch
from torch import nn

from gru_unlearn.common.modules import input_embeddings
from gru_unlearn.data import Example, pad_examples
from gru_unlearn.errors import NonFiniteError
from gru_unlearn.objectives import token_logps

POOL = 8
"""Batches among whose examples those of similar length are put together."""


class FineTuning:
    """Trains all parameters of a model that ask for gradients. Between steps the model is in evaluation mode.

    Args:
        model: causal language model, where it will be trained.
        pad_token_id: fills up the shorter rows of a batch.
        learning_rate, betas, weight_decay: AdamW's.
        clip: longest gradient.
        rate_at: step, counted from 0 → factor on the learning rate.
    """

    def __init__(
        self,
        model: nn.Module,
        pad_token_id: int,
        *,
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        clip: float = 1.0,
        rate_at: Callable[[int], float] = lambda _step: 1.0,
    ) -> None:
        self.model, self.pad_token_id, self.clip = model, pad_token_id, clip
        self.steps = 0
        self._optimizer = torch.optim.AdamW(
            model.parameters(), lr=learning_rate, betas=betas, weight_decay=weight_decay, fused=True
        )
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, rate_at)

    def step(self, batch: Sequence[Example]) -> float:
        """Take one step; returns the batch's loss before it.

        Raises:
            NonFiniteError: the loss became NaN or infinite; no step is taken.
        """
        self.model.train()
        device = input_embeddings(self.model).device
        rows = {name: values.to(device) for name, values in pad_examples(batch, self.pad_token_id).items()}
        logps, mask = token_logps(self.model, rows["input_ids"], rows["attention_mask"], rows["labels"])
        loss = -logps.sum() / mask.sum()
        value = loss.item()
        if not math.isfinite(value):
            raise NonFiniteError(f"the loss is {value} at step {self.steps + 1}")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad()
        self.steps += 1
        self.model.eval()
        return value


def batches_of_similar_length(examples: Sequence[Example], size: int, rng: Random) -> list[list[Example]]:
    """All examples in random batches with little padding: sorted by length within random pools of a few batches."""
    order = rng.sample(examples, len(examples))
    batches = []
    for pool in in_turn(order, POOL * size):
        pool.sort(key=lambda example: len(example["input_ids"]))
        batches += in_turn(pool, size)
    rng.shuffle(batches)
    return batches


def in_turn(examples: Sequence[Example], size: int) -> list[list[Example]]:
    """The examples, so many at a time; the last may be fewer."""
    return [list(examples[start : start + size]) for start in range(0, len(examples), size)]
