"""Processes that read one line, and print into a file: started, asked to stop, and why one failed."""

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO


@dataclass(frozen=True, slots=True)
class Child:
    """A process of ours, and what it prints."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def exit_code(self) -> int | None:
        """None while it runs; below zero where a signal ended it."""
        return self.process.poll()

    @property
    def reason(self) -> str:
        """The last line that a failed process printed, or the signal that ended it."""
        code = self.process.returncode
        if code < 0:
            return f"ended by signal {-code}" + (" (out of memory?)" if code == -9 else "")
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {code}"

    @property
    def input(self) -> IO[bytes]:
        """Where it reads its line."""
        assert self.process.stdin is not None  # each is started with a pipe
        return self.process.stdin

    def close_input(self) -> None:
        """It takes that as Ctrl-C."""
        with suppress(BrokenPipeError):  # it never read its line
            self.input.close()


def start_child(module: str, line: bytes, log: Path, threads: int) -> Child:
    """Run ``python -m MODULE``, in a session of its own, so that Ctrl-C reaches it once, through us."""
    with log.open("wb") as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=printed,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            start_new_session=True,
        )
    child = Child(process, log)
    with suppress(BrokenPipeError):  # it is gone already: its exit code says so
        child.input.write(line)
        child.input.flush()
    return child
