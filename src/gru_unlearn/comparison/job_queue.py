"""Many jobs, each in a process of its own, some at a time."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console

from gru_unlearn.comparison.cell_jobs import CellJob, ReferenceJob
from gru_unlearn.comparison.child_processes import Child, start_child
from gru_unlearn.errors import StorageError
from gru_unlearn.reporting.progress import progress_bar
from gru_unlearn.training.interrupt import Interrupted

Tell = Callable[[str, str | None], str]
"""(Name, reason of its failure) of a job that has ended → what to print."""


@dataclass
class _Queue:
    waiting: deque[ReferenceJob | CellJob]
    at_once: int
    logs: Path
    running: dict[str, Child] = field(default_factory=dict)

    def start_next(self) -> None:
        """Start what may run now; each gets its share of the threads."""
        threads = max(1, torch.get_num_threads() // self.at_once)
        while self.waiting and len(self.running) < self.at_once:
            job = self.waiting.popleft()
            log = self.logs / f"{job.name}.txt"
            self.running[job.name] = start_child("gru_unlearn.comparison.cell", job.line(), log, threads)

    def take_ended(self) -> Iterator[tuple[str, str | None]]:
        """Each job that has ended, and why it failed, if it did."""
        for name, child in list(self.running.items()):
            code = child.exit_code
            if code is None:
                continue
            del self.running[name]
            child.close_input()
            if code == StorageError.exit_code:
                raise StorageError(child.reason)
            yield name, child.reason if code else None

    def stop(self) -> None:
        """Let each save where it is, and wait."""
        for child in self.running.values():
            child.close_input()
        for child in self.running.values():
            child.process.wait()

    def kill(self) -> None:
        """End what still runs."""
        for child in self.running.values():
            child.process.kill()


def run_jobs(
    jobs: Sequence[ReferenceJob | CellJob], at_once: int, logs: Path, console: Console, tell: Tell | None = None
) -> dict[str, str]:
    """Run jobs, ``at_once`` at a time; returns name → reason of those that failed.

    Raises:
        Interrupted: Ctrl-C. The processes have stopped; a second one kills them.
        StorageError: a run found no room left to write; the others are killed, and go on from their last checkpoints.
    """
    queue, ended = _Queue(deque(jobs), at_once, logs), 0
    failed: dict[str, str] = {}
    logs.mkdir(parents=True, exist_ok=True)
    with progress_bar(console) as bar:
        task = bar.add_task("runs" if len(jobs) > 1 else "run", total=len(jobs), note="")
        try:
            while queue.waiting or queue.running:
                queue.start_next()
                time.sleep(0.1)
                for name, reason in queue.take_ended():
                    ended += 1
                    if reason is not None:
                        failed[name] = reason
                    if tell is not None:
                        line = f"{ended}/{len(jobs)} {tell(name, reason)}"
                        console.print(line, soft_wrap=True, highlight=False, markup=False)
                bar.update(task, completed=ended, note=", ".join(queue.running))
        except KeyboardInterrupt:
            bar.update(task, note="stopping: each run saves its last step")
            queue.stop()
            raise Interrupted(f"stopped with {ended} of {len(jobs)} runs done; the same command goes on") from None
        finally:
            queue.kill()
    return failed
