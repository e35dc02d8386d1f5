"""A training run on the console: a bar with step, losses, conflict rate and time left, plain lines elsewhere."""

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from transformers import TrainerCallback

from gru_unlearn.reporting.progress import progress_bar

_SHOWN = {
    "forget_loss": "forget loss {:.3f}",
    "retain_loss": "retain loss {:.3f}",
    "conflict_rate": "conflicts {:.0%}",
    "eval_forget_prob": "forget prob {:.3f}",
    "eval_retain_prob": "retain prob {:.3f}",
}

LONGEST_SILENCE = 60.0
"""Seconds after which a line tells of the last steps where there is no bar."""

LEAST_SURVIVING = 0.9
"""Share of a step's length that rounding should leave."""


class StepBar(TrainerCallback):
    """A bar that follows the optimizer's steps."""

    def __init__(self, console: Console, title: str) -> None:
        self.console, self.title = console, title
        self.bar = progress_bar(console)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start, at the step a resumed run goes on from."""
        self.bar.start()
        self.task = self.bar.add_task(self.title, total=state.max_steps, completed=state.global_step, note="")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Advance."""
        self.bar.update(self.task, completed=state.global_step)

    def close(self) -> None:
        """Leave the bar as it stands, at the end or after an error."""
        self.bar.stop()


class TrainingProgress(StepBar):
    """Shows a training run on a console; replaces Trainer's own printing."""

    shown: Mapping[str, str] = _SHOWN
    """number in the log → how it is told"""
    evaluated, stepped = "eval_forget_prob", "forget_loss"
    """what an evaluation tells, and a log between two of them"""

    def __init__(self, console: Console, title: str) -> None:
        super().__init__(console, title)
        self.latest: dict[str, float] = {}
        self.told = time.monotonic()
        self.warned = False

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Show the newest values; where there is no terminal, one line an evaluation (or log), or after a minute."""
        self._warn_of_rounding(logs or {})
        new = {key: value for key, value in (logs or {}).items() if key in self.shown}
        telling = self.evaluated
        if args.eval_strategy == "no":  # no evaluation will replace those on show
            self.latest, telling = {}, self.stepped
        self.latest |= new
        note = " · ".join(text.format(self.latest[key]) for key, text in self.shown.items() if key in self.latest)
        if self.bar.disable and (telling in new or (new and self._is_long_ago())):
            self.told = time.monotonic()
            self.console.print(f"{self.title} · step {state.global_step}/{state.max_steps} · {note}", soft_wrap=True)
        elif not self.bar.disable and hasattr(self, "task"):
            self.bar.update(self.task, note=note)

    def _is_long_ago(self) -> bool:
        return time.monotonic() - self.told >= LONGEST_SILENCE

    def _warn_of_rounding(self, logs: dict[str, float]) -> None:
        """Once, where the weights' type takes much of a step."""
        share = logs.get("surviving_share", 1.0)
        if share >= LEAST_SURVIVING or self.warned:
            return
        self.warned = True
        self.console.print(
            f"Only {share:.0%} of a step survives rounding to the weights' type: raise --learning-rate"
            " (or --dtype float32, where that is not the type).",
            soft_wrap=True,
            highlight=False,
        )
