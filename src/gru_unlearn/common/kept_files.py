"""Files of the cache that spare later work: whole or absent, and dropped when they are many and unused for longest."""

import os
import time
from collections.abc import Callable
from pathlib import Path

A_DAY = 24 * 60 * 60


def keep_file(file: Path, write: Callable[[Path], None], most_bytes: int) -> None:
    """Write a file that later work may use again; those beside it with the same ending go, unused for longest first,
    while all take more than ``most_bytes``.

    Args:
        file: where it belongs. The name of one that is used again is touched by whoever uses it.
        write: writes it where it is told.
        most_bytes: of all files with its ending in the folder.

    Raises:
        OSError: the folder cannot be written.
    """
    folder = file.parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # such files hold texts of the rows
    unfinished = folder / f"{file.stem}.{os.getpid()}.part"
    try:
        write(unfinished)
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
    _drop_unfinished(folder)
    _drop_unused(folder, most_bytes, spared=file)


def _drop_unfinished(folder: Path) -> None:
    """Delete what processes that were killed have left."""
    for part in folder.glob("*.part"):
        if time.time() - part.stat().st_mtime > A_DAY:
            part.unlink(missing_ok=True)


def _drop_unused(folder: Path, most_bytes: int, spared: Path) -> None:
    """Delete the files unused for longest that are too many; never the one that was just written."""
    total = 0
    for file in sorted(folder.glob(f"*{spared.suffix}"), key=lambda file: file.stat().st_mtime_ns, reverse=True):
        total += file.stat().st_size
        if total > most_bytes and file != spared:
            file.unlink(missing_ok=True)
