"""A warning about what only the device knows, without waiting for it: told once the answer has arrived."""

import warnings

import torch
from torch import Tensor


class LateWarning:
    """Warns once, in a later call than the one that saw the reason.

    Args:
        message: what to say.
    """

    def __init__(self, message: str) -> None:
        self._message: str | None = message
        self._answer: tuple[Tensor, torch.cuda.Event | None] | None = None

    def look(self, reason: Tensor) -> None:
        """Ask for a reason, which counts if above 0, unless an earlier one is still on its way; tell what has come."""
        self._tell()
        if self._message is not None and self._answer is None:
            self._answer = _on_its_way(reason)
            self._tell()

    def _tell(self) -> None:
        if self._answer is None or self._message is None:
            return
        answer, arrival = self._answer
        if arrival is not None and not arrival.query():
            return
        self._answer = None
        if answer.numpy() > 0:
            warnings.warn(self._message, RuntimeWarning, stacklevel=2)
            self._message = None


def _on_its_way(value: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """A copy on the host, and when it will be there."""
    if value.device.type != "cuda":
        return value.cpu(), None
    host = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
    host.copy_(value, non_blocking=True)
    arrival = torch.cuda.Event()
    arrival.record(torch.cuda.current_stream(value.device))
    return host, arrival
