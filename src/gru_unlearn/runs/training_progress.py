"""A training run on the console: step, total, time left, losses and conflict rate, as a bar or in plain lines."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from transformers import TrainerCallback

from gru_unlearn.reporting.progress import progress_bar
from gru_unlearn.training.stops import Stop

_SHOWN = {
    "eval_forget_prob": "forget prob {:.3f}",
    "eval_retain_prob": "retain prob {:.3f}",
    "forget_loss": "forget loss {:.3f}",
    "retain_loss": "retain loss {:.3f}",
    "conflict_rate": "conflicts {:.0%}",
}
"""What is told of a run, the most important first: a narrow terminal cuts the end."""

LEAST_SURVIVING = 0.9
"""Share of a step's length that rounding should leave."""


class StepBar(TrainerCallback):
    """A bar that follows the optimizer's steps."""

    enough = "enough is forgotten"
    """why a run may end before its last step"""

    def __init__(self, console: Console, title: str) -> None:
        self.console, self.title = console, title
        self.bar = progress_bar(console)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start, at the step a resumed run goes on from."""
        self.bar.start()
        step, note = state.global_step, ""
        if args.eval_on_start and step == 0:
            note = "measuring the model before the first step"
        self.task = self.bar.add_task(self.title, total=state.max_steps, completed=step, note=note, unit="step ")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Advance."""
        self.bar.update(self.task, completed=state.global_step)

    def arrived(self, stop: Stop | None = None) -> None:
        """All is done, also where a run stopped before its last step, for a reason."""
        if not hasattr(self, "task"):
            return
        task = self.bar.tasks[self.task]
        if not task.finished:
            why = self.enough if stop is None else stop.sentence
            self.console.print(
                f"Stopped after {task.completed:.0f} of {task.total:.0f} steps: {why}.", soft_wrap=True, highlight=False
            )
        self.bar.end_early(self.task)

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
        self.warned = False

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Show the newest values; where there is no terminal, one line an evaluation (or log)."""
        self._warn_of_rounding(logs or {})
        new = {key: value for key, value in (logs or {}).items() if key in self.shown}
        telling = self.evaluated
        if args.eval_strategy == "no":  # no evaluation will replace those on show
            self.latest, telling = {}, self.stepped
        self.latest |= new
        note = " · ".join(text.format(self.latest[key]) for key, text in self.shown.items() if key in self.latest)
        if not hasattr(self, "task"):
            return
        self.bar.update(self.task, note=note)
        if self.bar.disable and telling in new:
            self.bar.tell(self.task)

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
