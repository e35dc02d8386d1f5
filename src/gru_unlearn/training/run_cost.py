"""What the steps of a run took so far: rows that passed through the model, and seconds, without all around them."""

import time
from collections.abc import Mapping, Sequence

import torch

READ = 1 / 3
"""Row passes that a row costs which goes forward only."""

COST = ("rows", "seconds")
"""Keys of a run's log."""


class RunCost:
    """Counts along a run; a resumed one goes on from what its log says.

    Attributes:
        rows: passes of single rows, forward and backward, over all processes.
        seconds: from the fetching of a step's rows to the end of the step, over all steps.
        known: False in a run that goes on from a checkpoint of a version that did not count.
    """

    def __init__(self) -> None:
        self.rows, self.seconds, self.known = 0, 0.0, True
        self._since: float | None = None

    def go_on(self, log: Sequence[Mapping[str, float]], step: int) -> None:
        """Begin at a step with what the log notes of it; at step 0 with nothing."""
        noted = [row for row in log if row["step"] == step and row.keys() >= set(COST)]
        self.known = bool(noted) or step == 0
        last = noted[-1] if noted else {}
        self.rows, self.seconds = int(last.get("rows", 0)), last.get("seconds", 0.0)
        self._since = None

    def add_read(self, rows: int) -> None:
        """Rows went forward only."""
        self.rows += round(READ * rows)

    def begin_step(self) -> None:
        """A step's rows are about to be fetched."""
        self._since = time.perf_counter()

    def end_step(self) -> None:
        """The step is over, on this side: a device may still be at work on it."""
        if self._since is not None:
            self.seconds += time.perf_counter() - self._since
        self._since = None

    def settle(self, device: torch.device) -> None:
        """Wait until the device has done the steps, which counts as theirs."""
        if device.type != "cpu":
            begun = time.perf_counter()
            torch.accelerator.synchronize()
            self.seconds += time.perf_counter() - begun

    @property
    def noted(self) -> dict[str, float]:
        """As it stands in the log; empty where it is not known."""
        if not self.known:
            return {}
        return {"rows": self.rows, "seconds": round(self.seconds, 4)}
