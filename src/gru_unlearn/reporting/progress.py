"""Live progress that fits in 80 columns: bars on a terminal, elsewhere a line now and then, both with the time left."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

PLAIN_SECONDS = 30.0
"""Where there is no terminal, a line comes at least so often, if there is news."""

STEADY_SECONDS = 1800.0
"""The time left follows the speed over so long: steps of a large model take half a minute each."""


class Bars(Progress):
    """One line for each task: what it is, the bar, done of total, time spent and left. A task's ``note`` stands below.

    What a task is called is cut first, and the bar is what grows in wider terminals: the numbers are always there.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(
            TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            BarColumn(bar_width=16),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(table_column=Column(no_wrap=True)),
            TextColumn("left"),
            console=console,
            disable=not console.is_terminal,
            expand=True,
            speed_estimate_period=STEADY_SECONDS,
        )
        self._told = time.monotonic()

    def get_renderables(self) -> Iterable[RenderableType]:
        """All bars, then all notes."""
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            if task.visible and task.fields.get("note"):
                yield Text(f"  {task.fields['note']}", style="dim", no_wrap=True, overflow="ellipsis")

    def update(self, task_id: TaskID, **news: Any) -> None:
        """As rich's; where there is no terminal, a line now and then."""
        super().update(task_id, **news)
        if self.disable and time.monotonic() - self._told >= PLAIN_SECONDS:
            self.tell(task_id)

    def tell(self, task_id: TaskID) -> None:
        """One plain line about a task, as it stands."""
        self._told = time.monotonic()
        self.console.print(plain_line(self._tasks[task_id]), soft_wrap=True, highlight=False)

    def end_early(self, task_id: TaskID) -> None:
        """No more steps will come, because none are needed: the bar is full."""
        super().update(task_id, total=self._tasks[task_id].completed)


def plain_line(task: Task) -> str:
    """``npo · gru · step 5/100 · 0:01:10 left · forget prob 0.310``."""
    unit = task.fields.get("unit", "")
    parts = [task.description, f"{unit}{task.completed:.0f}/{task.total or 0:.0f}"]
    if task.time_remaining is not None and not task.finished:
        parts.append(f"{timedelta(seconds=round(task.time_remaining))} left")
    if task.fields.get("note"):
        parts.append(task.fields["note"])
    return " · ".join(parts)


def progress_bar(console: Console) -> Bars:
    """The bars used by all commands. Tasks have a ``note``, which may be empty, and perhaps a ``unit``: ``step``."""
    return Bars(console)


@contextmanager
def stages(console: Console, title: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar for each stage of a scoring pass; yields the callback (stage, done, total)."""
    tasks: dict[str, TaskID] = {}
    with progress_bar(console) as bar:

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(f"{title}: {stage}", total=total, note="")
            bar.update(tasks[stage], completed=done, total=total)

        yield update
