"""Files that are whole or absent, and what every summary says about where it came from."""

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gru_unlearn.errors import UserError

_PACKAGES = (
    "gru-unlearn",
    "torch",
    "transformers",
    "accelerate",
    "peft",
    "datasets",
    "tokenizers",
    "scipy",
    "rouge-score",
)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a result."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


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


class UnreadableFile(UserError, ValueError):
    """A JSON file that is broken or no text."""


def read_json(path: Path) -> Any:
    """The file's content, or None where there is no such file.

    Raises:
        UnreadableFile: it is not JSON.
    """
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(f"{path} cannot be read: not valid JSON ({error})") from None
