"""A run's own first step, taken on trial: what it would do at any learning rate. Afterwards all is as it was."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from gru_unlearn.data import PairSampler
from gru_unlearn.data.pairing import Pair
from gru_unlearn.training.config import UnlearningConfig
from gru_unlearn.training.weight_pairs import WeightPairs

TRIAL_RATE = 1e-3
"""At which the step is taken. First steps are proportional to the learning rate: AdamW's is −η·(sign(g) + decay·θ), and
what damps, carries off and rectifies it keeps that."""


class TrialStep:
    """The displacement of a step, beside the weights that it starts from. On a GPU these wait in main memory, so that
    the step needs no more memory than any other.

    Args:
        model: whose trained weights are stepped.
        optimizer: that steps them.
        pairs: the lower halves of those that are bfloat16.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, pairs: WeightPairs) -> None:
        self._params = [p for p in model.parameters() if p.requires_grad]
        self._optimizer, self._pairs = optimizer, pairs
        with pairs.joined():
            self._start = [_aside(p) for p in self._params]
        self._displacement: list[Tensor] = []

    @torch.no_grad()
    def take(self, step: Callable[[], object]) -> None:
        """Step at :data:`TRIAL_RATE`, and keep by how much the weights moved. Gradients and what the optimizer noted
        are gone afterwards."""
        rates = [group["lr"] for group in self._optimizer.param_groups]
        state = {p: deepcopy(its) for p, its in self._optimizer.state.items()}
        for group in self._optimizer.param_groups:
            group["lr"] = TRIAL_RATE
        with torch.enable_grad():
            step()
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self._optimizer.state.clear()
        self._optimizer.state.update(state)
        self._optimizer.zero_grad()
        with self._pairs.joined():
            self._displacement = [p.detach() - old.to(p.device) for p, old in self._with_start()]

    @property
    def moved(self) -> bool:
        """Whether the step moved any weight, and none to infinity."""
        lengths = [float(part.norm()) for part in self._displacement]
        return 0 < sum(lengths) < float("inf")

    @torch.no_grad()
    def go_to(self, rate: float) -> None:
        """Put the weights where the step would have brought them at a learning rate."""
        with self._pairs.joined():
            for (p, old), moved in zip(self._with_start(), self._displacement, strict=True):
                p.copy_(old).add_(moved, alpha=rate / TRIAL_RATE)

    @torch.no_grad()
    def go_back(self) -> None:
        """Put the weights where they were."""
        with self._pairs.joined():
            for p, old in self._with_start():
                p.copy_(old)

    def _with_start(self) -> Iterator[tuple[nn.Parameter, Tensor]]:
        return zip(self._params, self._start, strict=True)


def _aside(param: nn.Parameter) -> Tensor:
    kept = param.detach().clone()
    return kept.cpu() if kept.device.type == "cuda" else kept


@contextmanager
def on_trial(model: nn.Module, optimizer: Optimizer, pairs: WeightPairs) -> Iterator[TrialStep]:
    """Inside, a step may be tried, and the weights moved. Afterwards weights, buffers, modes, and all generators of
    random numbers are as they were, bit for bit."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    with _same_modes(model), _same_random_numbers(), pairs.kept():
        trial = TrialStep(model, optimizer, pairs)
        yield trial
        trial.go_back()
    with torch.no_grad():
        for buffer, old in buffers:
            buffer.copy_(old)


@contextmanager
def _same_random_numbers() -> Iterator[None]:
    python, numbers = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(python)
    np.random.set_state(numbers)


@contextmanager
def _same_modes(model: nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for part in model.modules()]
    yield
    for part, mode in modes:
        part.training = mode


def bare(optimizer: Any) -> Optimizer:
    """The optimizer that accelerate wraps."""
    inner: Optimizer = getattr(optimizer, "optimizer", optimizer)
    return inner


def first_window(sampler: PairSampler, args: UnlearningConfig, accelerator: Accelerator) -> list[list[Pair]]:
    """The pairs of this process's first accumulation window, batch by batch, as the run will draw them."""
    pairs, size = list(sampler), args.per_device_train_batch_size
    batches = [pairs[start : start + size] for start in range(0, len(pairs), size)]
    if args.dataloader_drop_last:
        batches = [batch for batch in batches if len(batch) == size]
    processes = accelerator.num_processes
    count = min(args.gradient_accumulation_steps, -(-len(batches) // processes))
    places = [number * processes + accelerator.process_index for number in range(count)]
    return [batches[place % len(batches)] for place in places]
