"""Many jobs, each in a process of its own, some at a time."""

import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import torch
from rich.console import Console

from gru_unlearn.common.supervision import Child, none_left_behind
from gru_unlearn.comparison.matrix_plan import Job
from gru_unlearn.errors import StorageError
from gru_unlearn.reporting.progress import progress_bar
from gru_unlearn.training.interrupt import Interrupted

OnEnd = Callable[[str, str | None], None]
"""What is to be done when a job has ended, from its name and why it failed, if it did."""


def run_jobs(jobs: Sequence[Job], at_once: int, logs: Path, console: Console, on_end: OnEnd) -> None:
    """Run jobs, ``at_once`` at a time.

    Raises:
        Interrupted: Ctrl-C. The processes have stopped; a second one kills them.
        StorageError: a run found no room left to write; the others are killed, and go on from their last checkpoints.
    """
    waiting, ended = list(jobs), 0
    running: dict[str, Child] = {}
    logs.mkdir(parents=True, exist_ok=True)
    with progress_bar(console) as bar, none_left_behind(running.values()):
        task = bar.add_task("runs" if len(jobs) > 1 else "run", total=len(jobs), note="")
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    job = waiting.pop(0)
                    running[job.folder.name] = _start(job, logs, at_once)
                time.sleep(0.1)
                for name in [name for name, child in running.items() if child.exit_code is not None]:
                    reason = _failure(running.pop(name))
                    ended += 1
                    on_end(name, reason)
                bar.update(task, completed=ended, note=", ".join(running))
        except KeyboardInterrupt:
            bar.update(task, note="stopping: each run saves its last step")
            _stop(running.values())
            raise Interrupted(f"stopped with {ended} of {len(jobs)} runs done; the same command goes on") from None


def _start(job: Job, logs: Path, at_once: int) -> Child:
    """Each gets its share of the threads."""
    threads = max(1, torch.get_num_threads() // at_once)
    command = [sys.executable, "-m", "gru_unlearn.comparison.cell"]
    log = logs / f"{job.folder.name}.txt"
    return Child(command, log, {"OMP_NUM_THREADS": str(threads)}, job.model_dump_json() + "\n")


def _failure(child: Child) -> str | None:
    """Why a job that has ended failed, if it did."""
    child.ask_to_stop()
    if child.exit_code == StorageError.exit_code:
        raise StorageError(child.reason)
    return child.reason if child.exit_code else None


def _stop(children: Collection[Child]) -> None:
    """Let each save where it is, and wait."""
    for child in children:
        child.ask_to_stop()
    for child in children:
        child.wait()
