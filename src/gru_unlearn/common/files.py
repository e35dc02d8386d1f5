"""Files and folders that are whole or absent, JSON, and hashes of what stands in them."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from gru_unlearn.common.processes import is_first
from gru_unlearn.errors import UserError

UNFINISHED = ".unfinished"
"""What the name of a folder ends in while it is being written."""


class UnreadableFile(UserError, ValueError):
    """A JSON file that is broken or no text."""


# --- JSON ------------------------------------------------------------------------------------------------------------


def read_json(path: Path) -> Any:
    """The file's content, or None where there is no such file.

    Raises:
        UnreadableFile: it is not JSON.
    """
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnreadableFile(f"{path} cannot be read: not valid JSON ({error})") from None


def write_json(path: Path, content: Any) -> None:
    """Write atomically: readers see the old file or the new one, never a part.

    Raises:
        ValueError: the content has a NaN or an infinity; nothing is written.
    """
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write atomically, as :func:`write_json` does. A write that fails leaves nothing behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """Where a file is written before it is whole: always the same place, so that nothing piles up after kills."""
    return path.with_name(f".{path.name}.part")


# --- hashes ----------------------------------------------------------------------------------------------------------


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_text(text: str) -> str:
    """SHA-256 of a text's UTF-8 bytes, in hexadecimal; broken UTF-8 that was read as such counts as it was."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def hash_json(value: object) -> str:
    """SHA-256 of a value written as JSON with sorted keys."""
    return hash_text(json.dumps(value, sort_keys=True, ensure_ascii=False))


# --- folders ---------------------------------------------------------------------------------------------------------


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A sibling of ``folder`` to write into; it takes the folder's place if all goes well, and vanishes if not."""
    part = folder.with_name(folder.name + UNFINISHED)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        finish(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def unfinished(folder: Path) -> Path:
    """Where a folder is written before it is whole, by many processes or one; the first clears the place."""
    part = folder.with_name(folder.name + UNFINISHED)
    if is_first():
        shutil.rmtree(part, ignore_errors=True)
    return part


def finish(folder: Path) -> None:
    """Put what was written to :func:`unfinished` in the folder's place, once it has reached the disk."""
    part = folder.with_name(folder.name + UNFINISHED)
    for file in part.rglob("*"):
        if file.is_file():
            with file.open("rb") as written:
                os.fsync(written.fileno())
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def link_folder(folder: Path, to: Path) -> None:
    """The same files in a second folder, which is not there yet: as links, so that they take no room twice, or copied
    where the file system knows none. What replaces a file later, as all writing here does, leaves the other as it was.
    """
    shutil.copytree(folder, to, copy_function=_linked)


def _linked(file: str, to: str) -> None:
    try:
        os.link(file, to)
    except OSError:
        shutil.copy2(file, to)


def default_cache() -> Path:
    """``$GRU_UNLEARN_CACHE``, else ``gru-unlearn`` in the user's cache: for what can be made again."""
    if chosen := os.environ.get("GRU_UNLEARN_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gru-unlearn"


def made_once(folder: Path, make: Callable[[Path], None], what: str) -> Path:
    """A folder of the cache, made now if it is not there. Processes that ask at the same time make it once.

    Args:
        folder: where it belongs.
        make: fills the folder that it is given, which becomes ``folder`` when it is whole.
        what: it holds, for messages.

    Raises:
        UserError: the cache cannot be written.
    """
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            if not folder.is_dir():  # nobody made it while this process waited
                with whole_folder(folder) as part:
                    make(part)
    except OSError as error:
        raise UserError(f"{folder.parent} cannot hold {what} ({error}): name a folder in GRU_UNLEARN_CACHE") from None
    return folder
