"""One folder, one run: where everything stands in it, who owns it, what it was started with, whether it is finished."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import JsonValue

from gru_unlearn.common.files import UNFINISHED, part_of, read_json, write_json
from gru_unlearn.common.processes import decided_by_first, is_first, wait_for_all
from gru_unlearn.common.renamed import renamed_settings
from gru_unlearn.errors import StorageError, UserError, first_line, is_no_room
from gru_unlearn.results.file_model import JobSummary, as_json

Identity = Mapping[str, JsonValue]
"""All that makes a run what it is; two runs with equal identities are the same run."""

DISCARDED = {"command": "discarded"}
"""Stands in ``run.json`` while a folder is emptied: a kill in between leaves a folder that counts as empty."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A folder that belongs to one run of one job."""

    path: Path

    # --- what stands where -------------------------------------------------------------------------------------------

    @property
    def identity_file(self) -> Path:
        """What the run was started with."""
        return self.path / "run.json"

    @property
    def summary_file(self) -> Path:
        """What came of it. Written last: where it is, the run is finished."""
        return self.path / "summary.json"

    @property
    def lock_file(self) -> Path:
        """Held by the process that works here."""
        return self.path / ".lock"

    @property
    def examples_file(self) -> Path:
        """Single rows before and after the run."""
        return self.path / "examples.json"

    @property
    def rows_file(self) -> Path:
        """Single rows' values in an evaluation or an attack."""
        return self.path / "rows.json"

    def scores_file(self, of: str = "model") -> Path:
        """The score table of an evaluation's ``model``, or of its ``retain_model``."""
        return self.path / {"model": "scores.parquet", "retain_model": "retain_scores.parquet"}[of]

    @property
    def report_file(self) -> Path:
        """The page for people."""
        return self.path / "report.html"

    @property
    def model(self) -> Path:
        """The model that the run saved."""
        return self.path / "model"

    @property
    def attack(self) -> "RunFolder":
        """The attack on the run, unless it was sent elsewhere."""
        return RunFolder(self.path / "attack")

    # --- what state it is in -----------------------------------------------------------------------------------------

    @property
    def is_finished(self) -> bool:
        """Whether a run came to its end here."""
        return self.summary_file.is_file()

    @property
    def is_empty(self) -> bool:
        """Nothing there but what a start that was cut short leaves."""
        left_behind = (self.lock_file.name, part_of(self.identity_file).name)
        return not self.path.is_dir() or all(file.name in left_behind for file in self.path.iterdir())

    def started_with(self) -> Identity | None:
        """The identity of the run in the folder, its settings called as they are now; None where there is no run."""
        try:
            started = read_json(self.identity_file)
        except ValueError:
            return None
        if not isinstance(started, Mapping):
            return None
        settings = started.get("settings")
        if isinstance(settings, Mapping):
            return {**started, "settings": renamed_settings(settings)}
        return started

    def check(
        self, identity: Mapping[str, object], *, overwrite: bool = False, inputs: Iterable[str | Path | None] = ()
    ) -> bool:
        """Whether the folder holds an unfinished run with this very identity, to be continued. Writes nothing.

        Args:
            identity: what the run is.
            overwrite: a run in the folder, finished or not, may be discarded.
            inputs: models and data of this run; those that are no files or folders are passed over.

        Raises:
            UserError: it holds another run (says what differs), a finished one, something that is no run, or an input.
        """
        if self.path.is_file():
            raise UserError(f"output folder {self.path} is a file")
        if self.is_empty:
            return False
        started = self.started_with()
        if started is None:
            raise UserError(f"output folder {self.path} holds files that are not a run: choose another folder")
        if started == DISCARDED:
            return False
        if overwrite:
            self._refuse_to_discard(inputs)
            return False
        wanted: Identity = as_json(identity)
        advice = "choose another folder, or pass --overwrite-output-dir"
        different = ", ".join(_differences(started, wanted))
        if different:
            raise UserError(f"output folder {self.path} holds another run (different: {different}): {advice}")
        if self.is_finished:
            raise UserError(f"output folder {self.path} holds this run, finished: {advice}")
        return True

    def claim(
        self, identity: Mapping[str, object], *, overwrite: bool = False, inputs: Iterable[str | Path | None] = ()
    ) -> "Claim":
        """:meth:`check` for a job, in one process or many. Nothing is written yet.

        Raises:
            UserError: as :meth:`check`, in all processes.
        """
        resume = decided_by_first(lambda: self.check(identity, overwrite=overwrite, inputs=inputs))
        return Claim(self, as_json(identity), resume)

    def _refuse_to_discard(self, inputs: Iterable[str | Path | None]) -> None:
        if not self.lock_file.is_file():  # any program may call a file run.json
            raise UserError(
                f"output folder {self.path} was not written by gru: delete it yourself, or choose another folder"
            )
        for source in map(str, filter(None, inputs)):
            if self._holds(source):
                raise UserError(
                    f"output folder {self.path} holds {source}, which this run reads: choose another folder"
                )

    def _holds(self, source: str) -> bool:
        """Whether a source (``FILE``, ``FILE[:8]``, ``FOLDER:NAME``) is read from inside the folder."""
        rows = source.partition("[")[0]
        for form in filter(None, (source, rows, rows.partition(":")[0])):
            path = Path(form).expanduser()
            if path.exists() and path.resolve().is_relative_to(self.path.resolve()):
                return True
        return False

    # --- working in it -----------------------------------------------------------------------------------------------

    @contextmanager
    def held(self, identity: Identity, *, resume: bool) -> Iterator[None]:
        """Hold the folder for this process, marked with the run's identity; one that is not resumed is emptied first.

        Raises:
            UserError: another process holds it, or it cannot be written.
            StorageError: there is no room left, now or while the folder is held.
        """
        try:
            with self._locked():
                for part in self.path.glob(f"*{UNFINISHED}"):  # their room may be needed before they are written anew
                    shutil.rmtree(part, ignore_errors=True)
                if not resume:
                    self._empty()
                    write_json(self.identity_file, identity)
                yield
        except Exception as error:
            if isinstance(error, StorageError) or not is_no_room(error):
                raise
            where = f"{self.path} ({first_line(error)})"
            raise StorageError(
                f"no room left to write in {where}: make room and start the same command again"
            ) from error

    def finish(self, summary: JobSummary) -> None:
        """Write the summary, which marks the run as finished; now, unless it says another time itself."""
        if summary.finished is None:
            summary.finished = datetime.now(UTC).isoformat(timespec="seconds")
        summary.write(self.summary_file)

    def wait_until_free(self, seconds: float) -> None:
        """Return when no process holds the folder, which need not exist.

        Raises:
            UserError: one still does after so many seconds.
        """
        if self.lock_file.is_file():
            with self._locked(seconds):
                pass

    @contextmanager
    def _locked(self, seconds: float = 0) -> Iterator[None]:
        """Hold the folder's lock, which is free at the latest after so many seconds."""
        lock = FileLock(self.lock_file)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=seconds)
        except Timeout:
            raise UserError(f"output folder {self.path} is in use by another process") from None
        except OSError as error:
            if is_no_room(error):
                raise
            raise UserError(f"output folder {self.path} cannot be written ({error.strerror or error})") from None
        try:
            yield
        finally:
            lock.release()

    def _empty(self) -> None:
        """Delete all that is in the folder, and nothing that links in it lead to."""
        if self.is_empty:
            return
        write_json(self.identity_file, DISCARDED)
        for item in self.path.iterdir():
            if item in (self.lock_file, self.identity_file):
                continue
            if item.is_dir() and not item.is_symlink():
                shutil.rmtree(item)
            else:
                item.unlink()


@dataclass(frozen=True, slots=True)
class Claim:
    """A folder that was checked for a job; nothing has been written yet."""

    folder: RunFolder
    identity: Identity
    resume: bool
    """whether an unfinished run of the same identity goes on"""

    @contextmanager
    def held(self, *, resume: bool | None = None) -> Iterator[RunFolder]:
        """Hold the folder while the job works in it: of many processes the first holds it for all.

        Args:
            resume: False: begin anew even where the same run was left unfinished.
        """
        if resume is None:
            resume = self.resume
        with self.folder.held(self.identity, resume=resume) if is_first() else nullcontext():
            wait_for_all()
            yield self.folder


SPOKEN = {"footing": "what the run chose by itself"}
"""Keys of an identity that are no setting's name."""


def _differences(old: Identity, new: Identity) -> Iterator[str]:
    """Names whose values differ, one level deep: ``settings.learning_rate``, ``forget``."""
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            yield from (f"{key}.{name}" for name in sorted({*a, *b}) if a.get(name) != b.get(name))
        elif a != b:
            yield SPOKEN.get(key, key)
