"""Copies of a model that are fine-tuned on some rows: all weights, or adapters beside them."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Any

import torch
from torch import nn

from gru_unlearn.data import Example
from gru_unlearn.errors import NonFiniteError, first_line
from gru_unlearn.evaluation import Missing
from gru_unlearn.models.subject import Subject
from gru_unlearn.training.fine_tuning import FineTuning, in_turn

CLIP = 1.0
RANK = 8
"""Of adapters, which are scaled by twice their rank, as usual."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """How a copy is trained."""

    steps: int
    learning_rate: float
    batch_size: int
    seed: int
    adapters: bool = False

    @property
    def form(self) -> str:
        """For people."""
        rate = f"at {self.learning_rate:.3g}"
        return f"LoRA {rate}" if self.adapters else rate


def copy_to_train(subject: Subject, tuning: Tuning) -> Any:
    """A copy of which all weights are trained, in float32: bfloat16 would round small steps away. Or one with adapters.

    Raises:
        Missing: it has no layers that adapters could stand beside.
    """
    model = subject.load("float32")
    if not tuning.adapters:
        model.requires_grad_(True)  # merged adapters leave the weights under them frozen
        return model
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415 - slow to import

    torch.manual_seed(tuning.seed)  # for the adapters' first weights
    lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    try:
        return get_peft_model(model, lora).eval()
    except ValueError as error:
        raise Missing(f"no adapters: {first_line(error)}") from None


def fine_tune(
    model: nn.Module, examples: Sequence[Example], subject: Subject, tuning: Tuning, *, narrow: bool = False
) -> Iterator[int]:
    """Minimise the mean cross-entropy of answer tokens: AdamW at a constant rate, no decay, few rows a step.

    Args:
        model: to train.
        examples: to train on.
        subject: of which it is a copy.
        tuning: how.
        narrow: compute in bfloat16 (autocast).

    Yields:
        The number of steps taken so far, from 0.

    Raises:
        Missing: the loss became NaN or infinite.
    """
    torch.manual_seed(tuning.seed)  # for dropout
    pad = subject.encoder.tokenizer.pad_token_id
    trainer = FineTuning(model, pad, learning_rate=tuning.learning_rate, clip=CLIP)
    yield trainer.steps
    for batch in islice(endless_batches(examples, tuning.batch_size, tuning.seed), tuning.steps):
        try:
            with computing(narrow=narrow):
                trainer.step(batch)
        except NonFiniteError as error:
            raise Missing(f"relearning: {error}") from None
        yield trainer.steps


def computing(*, narrow: bool) -> AbstractContextManager[Any]:
    """A forward and backward pass in bfloat16, or as the weights are."""
    if not narrow:
        return nullcontext()
    return torch.autocast("cpu", torch.bfloat16)


def endless_batches(examples: Sequence[Example], size: int, seed: int) -> Iterator[list[Example]]:
    """Each pass over the examples in an order of its own."""
    rng = Random(seed)
    while True:
        yield from in_turn(rng.sample(list(examples), len(examples)), size)
