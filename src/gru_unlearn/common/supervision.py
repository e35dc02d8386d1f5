"""Programs that run beside this one: each with a log file and a session of its own, and none left behind."""

import os
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path


class Child:
    """A program that was started and is watched.

    Its session is its own: Ctrl-C does not reach it but through :meth:`ask_to_stop`.

    Args:
        command: program and arguments.
        log: file for all that it prints, written anew.
        environment: variables beside those of this process.
        message: what it finds on its standard input, which stays open after it; None: nothing, and it is closed.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        message: str | None = None,
    ) -> None:
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL if message is None else subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | dict(environment or {}),
                start_new_session=True,
            )
        if self._process.stdin and message:
            with suppress(BrokenPipeError):  # it is gone already: its exit code says so
                self._process.stdin.write(message.encode())
                self._process.stdin.flush()

    @property
    def exit_code(self) -> int | None:
        """What it ended with, a signal as a negative number; None while it runs."""
        return self._process.poll()

    def ask_to_stop(self) -> None:
        """Close its standard input: a program that reads it to the end takes that for Ctrl-C."""
        if self._process.stdin:
            with suppress(BrokenPipeError):  # it never read its message
                self._process.stdin.close()

    def wait(self) -> None:
        """Return when it has ended."""
        self._process.wait()

    def kill(self) -> None:
        """End it at once, if it still runs."""
        self._process.kill()
        self.wait()
        self.ask_to_stop()

    @property
    def last_line(self) -> str:
        """What it printed last; empty if nothing."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    @property
    def reason(self) -> str:
        """Why it failed, once it has: the signal that ended it, or its last line."""
        code = self.exit_code or 0
        if code == -9:
            return "ended by signal 9 (out of memory?)"
        if code < 0:
            return f"ended by signal {-code}"
        return self.last_line or f"exit code {code}"


@contextmanager
def none_left_behind(children: Collection[Child]) -> Iterator[None]:
    """Kills, at the end, those of the children that still run; the collection may change until then."""
    try:
        yield
    finally:
        for child in children:
            child.kill()
