"""One folder, one run: who owns it, whether it is finished, and what it was started with."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gru_unlearn.common.files import UNFINISHED, part_of, read_json, write_json
from gru_unlearn.errors import StorageError, UserError, first_line, is_no_room

RUN_FILE = "run.json"
SUMMARY_FILE = "summary.json"
LOCK_FILE = ".lock"
EXAMPLES_FILE = "examples.json"
"""Single rows before and after a run."""

DISCARDED = {"command": "discarded"}
"""Stands in ``run.json`` while a folder is emptied: a kill in between leaves a folder that counts as empty."""


def check_output(
    folder: Path, identity: Mapping[str, Any], *, overwrite: bool = False, inputs: Iterable[str | Path | None] = ()
) -> bool:
    """Whether ``folder`` holds an unfinished run with this very identity, to be continued. Writes nothing.

    Args:
        folder: the output folder.
        identity: what the run is.
        overwrite: a run in the folder, finished or not, may be discarded.
        inputs: models and data of this run; those that are no files or folders are passed over.

    Raises:
        UserError: it holds another run (says what differs), a finished one, something that is no run, or an input.
    """
    if folder.is_file():
        raise UserError(f"output folder {folder} is a file")
    if _is_empty(folder):
        return False
    started = started_with(folder)
    if started is None:
        raise UserError(f"output folder {folder} holds files that are not a run: choose another folder")
    if started == DISCARDED:
        return False
    if overwrite:
        _refuse_to_discard(folder, inputs)
        return False
    if started != identity:
        raise UserError(
            f"output folder {folder} holds another run (different: {_differences(started, identity)}): "
            "choose another folder, or pass --overwrite-output-dir"
        )
    if (folder / SUMMARY_FILE).is_file():
        raise UserError(
            f"output folder {folder} holds this run, finished: choose another folder, or pass --overwrite-output-dir"
        )
    return True


def _is_empty(folder: Path) -> bool:
    """Nothing there but what a start that was cut short leaves."""
    left_behind = (LOCK_FILE, part_of(folder / RUN_FILE).name)
    return not folder.is_dir() or all(file.name in left_behind for file in folder.iterdir())


def started_with(folder: Path) -> Mapping[str, Any] | None:
    """The identity of the run in the folder; None where there is no run."""
    try:
        started = read_json(folder / RUN_FILE)
    except ValueError:
        return None
    return started if isinstance(started, Mapping) else None


def _refuse_to_discard(folder: Path, inputs: Iterable[str | Path | None]) -> None:
    if not (folder / LOCK_FILE).is_file():  # any program may call a file run.json
        raise UserError(f"output folder {folder} was not written by gru: delete it yourself, or choose another folder")
    for source in map(str, filter(None, inputs)):
        rows = source.partition("[")[0]  # FILE[:8], FOLDER:NAME
        paths = [Path(form).expanduser() for form in (source, rows, rows.partition(":")[0]) if form]
        if any(path.exists() and path.resolve().is_relative_to(folder.resolve()) for path in paths):
            raise UserError(f"output folder {folder} holds {source}, which this run reads: choose another folder")


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Names whose values differ, one level deep: ``settings.learning_rate, forget``."""
    names = []
    for key in sorted({*old, *new}):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            names += [f"{key}.{inner}" for inner in sorted({*a, *b}) if a.get(inner) != b.get(inner)]
        elif a != b:
            names.append(key)
    return ", ".join(names)


@contextmanager
def owned(folder: Path, identity: Mapping[str, Any], *, resume: bool) -> Iterator[None]:
    """Hold ``folder`` for this process and mark it with the run's identity; a folder not resumed is emptied first.

    Raises:
        UserError: another process holds it, or it cannot be written.
        StorageError: there is no room left, now or while the folder is held.
    """
    try:
        with _locked(folder):
            for part in folder.glob(f"*{UNFINISHED}"):  # their room may be needed before they are written anew
                shutil.rmtree(part, ignore_errors=True)
            if not resume:
                _empty(folder)
                write_json(folder / RUN_FILE, identity)
            yield
    except Exception as error:
        if isinstance(error, StorageError) or not is_no_room(error):
            raise
        raise StorageError(
            f"no room left to write in {folder} ({first_line(error)}): make room and start the same command again"
        ) from error


@contextmanager
def _locked(folder: Path, seconds: float = 0) -> Iterator[None]:
    """Hold the folder's lock, which is free at the latest after so many seconds.

    Raises:
        UserError: another process holds it, or it cannot be written.
    """
    lock = FileLock(folder / LOCK_FILE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=seconds)
    except Timeout:
        raise UserError(f"output folder {folder} is in use by another process") from None
    except OSError as error:
        if is_no_room(error):
            raise
        raise UserError(f"output folder {folder} cannot be written ({error.strerror or error})") from None
    try:
        yield
    finally:
        lock.release()


def wait_until_free(folder: Path, seconds: float) -> None:
    """Return when no process holds ``folder``, which need not exist.

    Raises:
        UserError: one still does after so many seconds.
    """
    if (folder / LOCK_FILE).is_file():
        with _locked(folder, seconds):
            pass


def _empty(folder: Path) -> None:
    """Delete all that is in the folder, and nothing that links in it lead to."""
    if _is_empty(folder):
        return
    write_json(folder / RUN_FILE, DISCARDED)
    for item in folder.iterdir():
        if item.name not in (LOCK_FILE, RUN_FILE):
            item.unlink() if item.is_symlink() or not item.is_dir() else shutil.rmtree(item)
