"""Live progress: bars with time spent and left on a terminal, nothing elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def progress_bar(console: Console) -> Progress:
    """The bar used by all commands, with time spent and left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not console.is_terminal,
    )


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
