"""Ctrl-C as a request: finish the step, write a checkpoint, stop. A second Ctrl-C stops at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback


class Interrupted(Exception):
    """The run was stopped by Ctrl-C after its last step was saved. Exit code 130."""

    exit_code = 130


class InterruptCallback(TrainerCallback):
    """Turns a first SIGINT into save and stop at the end of the current step."""

    def __init__(self) -> None:
        self.requested = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Inside, SIGINT is handled here; afterwards as before. Only the main thread can listen."""
        before = signal.getsignal(signal.SIGINT)

        def handle(*_: Any) -> None:
            self.requested = True
            signal.signal(signal.SIGINT, before)

        signal.signal(signal.SIGINT, handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask Trainer to save and stop once the signal has come."""
        if dist.is_initialized():  # the signal reaches the processes at different steps; they must stop at the same one
            asked = torch.tensor(float(self.requested), device=args.device)
            dist.all_reduce(asked, op=dist.ReduceOp.MAX)
            self.requested = bool(asked)
        if self.requested:
            control.should_save = control.should_training_stop = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Trainer calls this where it stops, in the middle of an epoch too: there, nothing is due. At a true end what
        an evaluation finds must be in the checkpoint, because nobody will evaluate there again."""
        if not self.requested:
            return
        if float(state.epoch).is_integer():
            control.should_save = True
        else:
            control.should_save = control.should_evaluate = False
