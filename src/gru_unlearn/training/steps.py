"""An optimizer step: its accumulation window, the log of what it was, and what happens around it.

Losses are means over all of the window, however it is cut into micro-batches and processes.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import TrainerCallback

from gru_unlearn.common.memory import MUCH, give_back_freed_memory
from gru_unlearn.data import Batch
from gru_unlearn.geometry import GradientRectifier, StepTelemetry
from gru_unlearn.training.run_cost import RunCost
from gru_unlearn.training.surviving_share import RoundingProbe

SIDES = ("forget", "retain")

GIVE_BACK_EVERY = 4
"""Steps on a CPU between two times that freed memory goes back. After each step it took a tenth of the time."""


class WindowSize(NamedTuple):
    """How many examples and supervised tokens one side of a window has, over all processes: tensors where these are
    several, because the sums then stay on the device."""

    examples: int | Tensor
    tokens: int | Tensor
    """that are predicted: all but a row's first"""
    hidden: int | Tensor
    """all of them: each has a hidden state"""


class AccumulationWindow:
    """The micro-batches of one optimizer step: their sizes, and the losses so far.

    Args:
        micro_batches: of this process, each with the batches of the two :data:`SIDES`, their labels located.
        accelerator: of the run.

    Attributes:
        losses: name → its mean over what has been seen of the window, a tensor on the device.
    """

    def __init__(self, micro_batches: Sequence[dict[str, list[Batch]]], accelerator: Accelerator) -> None:
        self.processes = accelerator.num_processes
        self.losses: dict[str, Tensor] = {}
        counts = _summed([_count(micro_batches, side) for side in SIDES], accelerator)
        self._sizes = {side: WindowSize(*count) for side, count in zip(SIDES, counts, strict=True)}

    def mean(self, losses: Tensor, side: str, hidden: Tensor | None = None) -> Tensor:
        """A micro-batch's part of the window's mean: losses come per example, [B], or per token, two-dimensional.

        Gradients are averaged over processes afterwards, so each process counts as often as there are processes.

        Args:
            losses: of the micro-batch.
            side: one of :data:`SIDES`.
            hidden: [M, H] if the losses were made of hidden states; one for each of these, [1, M], counts them.
        """
        size = self._sizes[side]
        count = size.tokens
        if losses.ndim == 1:
            count = size.examples
        elif hidden is not None and losses.shape == (1, len(hidden)):
            count = size.hidden
        return losses.sum() * (self.processes / count)

    def note(self, name: str, loss: Tensor) -> Tensor:
        """Add a micro-batch's part to the loss of a name; returns the part, without its graph."""
        self.losses[name] = self.losses.get(name, 0.0) + loss.detach()
        return loss.detach()


def _count(micro_batches: Sequence[dict[str, list[Batch]]], side: str) -> list[int]:
    """A side's :class:`WindowSize` in this process: by shapes, which are known without asking a device."""
    batches = chain.from_iterable(both[side] for both in micro_batches)
    located = [batch["supervised"] for batch in batches]
    examples = sum(len(where["mask"]) for where in located)
    tokens = sum(len(where["predicting"]) for where in located)
    hidden = sum(len(where["tokens"]) for where in located)
    return [examples, tokens, hidden]


def _summed(counts: list[list[int]], accelerator: Accelerator) -> Sequence[Sequence[int | Tensor]]:
    if accelerator.num_processes == 1:
        return counts
    here = torch.tensor(counts, pin_memory=accelerator.device.type == "cuda")
    total: Tensor = accelerator.reduce(here.to(accelerator.device, non_blocking=True), reduction="sum")
    return [side.unbind() for side in total.unbind()]


class Step(NamedTuple):
    """What was measured of one step, on the device."""

    losses: dict[str, Tensor]
    measured: Tensor | None
    """by the rectifier"""
    surviving_share: Tensor | None


class StepLog:
    """Per-step values between two logs. They stay on the device until somebody reads the log."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def add(self, losses: dict[str, Tensor], measured: Tensor | None, surviving_share: Tensor | None = None) -> None:
        """Note one step: its losses, what the rectifier measured, and what rounding left of it."""
        self.steps.append(Step(losses, measured, surviving_share))

    def drain(self) -> dict[str, float]:
        """Mean of each value over the steps since the last call that have it; conflict_rate is the share of rectified
        steps."""
        seen = defaultdict(list)
        for step in self.steps:
            for name, value in _as_numbers(step).items():
                seen[name].append(value)
        self.steps = []
        return {name: sum(values) / len(values) for name, values in seen.items()}


def _as_numbers(step: Step) -> dict[str, float]:
    values = {name: float(value) for name, value in step.losses.items()}
    if step.surviving_share is not None:
        values["surviving_share"] = float(step.surviving_share)
    if step.measured is None:
        return values
    telemetry = StepTelemetry.of(step.measured.tolist())
    values |= {
        "conflict_rate": float(telemetry.rectified),
        "conflict_share": telemetry.conflict_share,
        "cosine": telemetry.cosine,
        "removed_share": telemetry.removed_share,
        "forget_grad_norm": telemetry.forget_norm,
        "retain_grad_norm": telemetry.retain_norm,
    }
    if telemetry.retain_change is not None:
        values["retain_change"] = telemetry.retain_change
    return values


class Steps(Protocol):
    """What happens around a step, as a trainer does it."""

    rectifier: GradientRectifier | None
    rounding: RoundingProbe | None
    cost: RunCost

    def prepare_first_step(self) -> None:
        """Model and optimizer are ready, and restored if the run resumes."""

    def check_finite(self) -> None:
        """Gradients are accumulated, rectified and clipped: may they be stepped along?"""

    def note_step(self) -> None:
        """The weights have moved."""

    def keep_rate(self) -> None:
        """The step is over, and what it took is counted."""


class StepCallback(TrainerCallback):
    """Ties the rectifier and its telemetry to Trainer's events."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Before the first step."""
        self.steps.prepare_first_step()
        self.steps.cost.go_on(state.log_history, state.global_step)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """⟨r, Δθ⟩ costs two passes over the weights: like rounding, it is measured at the steps that will be logged."""
        logs = args.telemetry and args.logging_strategy != "no"
        logged = logs and (state.global_step + 1) % max(1, state.logging_steps) == 0
        if self.steps.rectifier is not None:
            self.steps.rectifier.measure_change = logged
        if self.steps.rounding is not None:
            self.steps.rounding.active = logged

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Before the optimizer's step."""
        if args.telemetry:
            self.steps.check_finite()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """After it."""
        self.steps.note_step()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Memory goes back now and then, so that holes do not add up: no graph is alive here, and no gradient."""
        if args.device.type == "cpu" and state.global_step % GIVE_BACK_EVERY == 0:
            give_back_freed_memory(MUCH)
        self.steps.cost.end_step()
        self.steps.keep_rate()
