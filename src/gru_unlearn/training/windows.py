"""An accumulation window: losses are means over all of it, however it is cut into micro-batches and processes."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor

from gru_unlearn.data import Batch

SIDES = ("forget", "retain")


class WindowSize(NamedTuple):
    """How many examples and supervised tokens one side of a window has, over all processes: tensors where these are
    several, because the sums then stay on the device."""

    examples: int | Tensor
    tokens: int | Tensor


class AccumulationWindow:
    """The micro-batches of one optimizer step: their sizes, and the losses so far.

    Args:
        micro_batches: of this process, each with the two :data:`SIDES`, their labels located.
        accelerator: of the run.

    Attributes:
        losses: name → its mean over what has been seen of the window, a tensor on the device.
    """

    def __init__(self, micro_batches: Sequence[dict[str, Batch]], accelerator: Accelerator) -> None:
        self.processes = accelerator.num_processes
        self.losses: dict[str, Tensor] = {}
        counts = _summed([_count(micro_batches, side) for side in SIDES], accelerator)
        self._sizes = {side: WindowSize(*count) for side, count in zip(SIDES, counts, strict=True)}

    def mean(self, losses: Tensor, side: str) -> Tensor:
        """A micro-batch's part of the window's mean: losses come per example, [B], or per token, two-dimensional.

        Gradients are averaged over processes afterwards, so each process counts as often as there are processes.
        """
        size = self._sizes[side]
        count = size.examples if losses.ndim == 1 else size.tokens
        return losses.sum() * (self.processes / count)

    def note(self, name: str, loss: Tensor) -> Tensor:
        """Add a micro-batch's part to the loss of a name; returns the part, without its graph."""
        self.losses[name] = self.losses.get(name, 0.0) + loss.detach()
        return loss.detach()


def _count(micro_batches: Sequence[dict[str, Batch]], side: str) -> list[int]:
    """Examples and tokens of one side in this process: by shapes, which are known without asking a device."""
    located = [batch[side]["supervised"] for batch in micro_batches]
    examples = sum(len(where["mask"]) for where in located)
    tokens = sum(len(where["predicting"]) for where in located)
    return [examples, tokens]


def _summed(counts: list[list[int]], accelerator: Accelerator) -> Sequence[Sequence[int | Tensor]]:
    if accelerator.num_processes == 1:
        return counts
    here = torch.tensor(counts, pin_memory=accelerator.device.type == "cuda")
    total: Tensor = accelerator.reduce(here.to(accelerator.device, non_blocking=True), reduction="sum")
    return [side.unbind() for side in total.unbind()]
