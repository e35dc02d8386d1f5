"""A training run on the console: step, total, time left, losses and conflict rate, as a bar or in plain lines."""

import math
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from rich.console import Console
from transformers import TrainerCallback

from gru_unlearn.reporting.progress import progress_bar
from gru_unlearn.reporting.prose import say
from gru_unlearn.reporting.tables import plural, shown
from gru_unlearn.training.aim import aim_of
from gru_unlearn.training.course import course_of, steps_to
from gru_unlearn.training.stops import Stop

_SHOWN = {
    "eval_forget_prob": "forget prob {}",
    "eval_retain_prob": "retain prob {}",
    "forget_loss": "forget loss {:.3f}",
    "retain_loss": "retain loss {:.3f}",
    "conflict_rate": "conflicts {:.0%}",
}
"""What is told of a run, the most important first: a narrow terminal cuts the end."""

LEAST_SURVIVING = 0.9
"""Share of a step's length that rounding should leave."""


def _told(text: str, value: float) -> str:
    """A number in its text, by the text's format or as numbers are told."""
    return text.replace("{}", shown(value)).format(value)


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
            say(self.console, f"Stopped after {task.completed:.0f} of {task.total:.0f} steps: {why}.")
        self.bar.end_early(self.task)

    def close(self) -> None:
        """Leave the bar as it stands, at the end or after an error."""
        self.bar.stop()


class Pace:
    """How long steps take, with all around them, since this process took its first one.

    Attributes:
        steps: how many it has taken.
    """

    def __init__(self) -> None:
        self.steps = 0
        self._begun: tuple[float, int] | None = None
        self._latest = 0.0

    def begin(self, step: int) -> None:
        """A step begins after so many others."""
        if self._begun is None:
            self._begun = time.monotonic(), step

    def note(self, step: int) -> None:
        """So many are done."""
        if self._begun is None:
            return
        self.steps, self._latest = step - self._begun[1], time.monotonic()

    def time_for(self, steps: int) -> timedelta:
        """What so many will take; nothing before the first one is done."""
        if self._begun is None or not self.steps:
            return timedelta()
        return timedelta(seconds=round(steps * (self._latest - self._begun[0]) / self.steps))


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
        self.pace = Pace()
        self.outlook = ""

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """From here on it can be said how long a step takes."""
        self.pace.begin(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Advance; on its own, a run says after its first step how long it may take."""
        first = self.pace.steps == 0
        self.pace.note(state.global_step)
        if args.on_its_own and first and state.global_step < state.max_steps:
            longest = self.pace.time_for(state.max_steps - state.global_step)
            self.console.print(f"At most {state.max_steps} steps: {longest} at the pace of the first.", highlight=False)
        super().on_step_end(args, state, control)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Show the newest values; where there is no terminal, one line an evaluation (or log)."""
        self._warn_of_rounding(logs or {})
        new = {key: value for key, value in (logs or {}).items() if key in self.shown}
        telling = self.evaluated
        if args.eval_strategy == "no":  # no evaluation will replace those on show
            self.latest, telling = {}, self.stepped
        self.latest |= new
        parts = [_told(text, self.latest[key]) for key, text in self.shown.items() if key in self.latest]
        if self.evaluated in new:
            self.outlook = self._outlook(args, state)
        if self.outlook:
            parts.insert(1, self.outlook)
        note = " · ".join(parts)
        if not hasattr(self, "task"):
            return
        self.bar.update(self.task, note=note)
        if self.bar.disable and telling in new:
            self.bar.tell(self.task)

    def _outlook(self, args: Any, state: Any) -> str:
        """When enough will be forgotten, if it goes on like this."""
        aim = aim_of(args)
        if aim is None:
            return ""
        goal = aim.goal
        ahead = steps_to(course_of(state.log_history), goal)
        if not ahead:
            return ""
        steps = math.ceil(ahead)
        if steps > state.max_steps - state.global_step:
            return f"{shown(goal)} not before the last step"
        return f"{shown(goal)} in about {plural(steps, 'step')} ({self.pace.time_for(steps)})"

    def _warn_of_rounding(self, logs: dict[str, float]) -> None:
        """Once, where the weights' type takes much of a step."""
        share = logs.get("surviving_share", 1.0)
        if share >= LEAST_SURVIVING or self.warned:
            return
        self.warned = True
        say(
            self.console,
            f"Only {share:.0%} of a step survives rounding to the weights' type: raise --learning-rate"
            " (or --dtype float32, where that is not the type).",
        )
