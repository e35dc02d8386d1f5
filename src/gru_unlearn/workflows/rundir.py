"""One folder, one run: who owns it, whether it is finished, and what it was started with."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from gru_unlearn.errors import UserError
from gru_unlearn.reporting import read_json, write_json

RUN_FILE = "run.json"
SUMMARY_FILE = "summary.json"
LOCK_FILE = ".lock"


def check_output(folder: Path, identity: Mapping[str, Any], *, overwrite: bool = False) -> bool:
    """Whether ``folder`` holds an unfinished run with this very identity, to be continued. Writes nothing.

    Raises:
        UserError: it holds another run (says what differs), a finished one, or something that is no run.
    """
    if folder.is_file():
        raise UserError(f"output folder {folder} is a file")
    if not folder.is_dir() or not any(file.name != LOCK_FILE for file in folder.iterdir()):
        return False
    started = read_json(folder / RUN_FILE)
    if started is None:
        raise UserError(f"output folder {folder} holds files that are not a run: choose another folder")
    if overwrite:
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
        UserError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"output folder {folder} is in use by another process") from None
    try:
        if not resume:
            for item in folder.iterdir():
                if item.name != LOCK_FILE:
                    shutil.rmtree(item) if item.is_dir() else item.unlink()
            write_json(folder / RUN_FILE, identity)
        yield
    finally:
        lock.release()
