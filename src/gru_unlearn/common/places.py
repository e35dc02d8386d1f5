"""Where models and rows are said to be: what a name alone shows to be wrong, before anything is imported or read."""

import re
from pathlib import Path

from gru_unlearn.errors import UserError, nearest

BUILTIN = "builtin:"
BUILTIN_MODELS = ("target", "retain", "base")
BUILTIN_ROWS = ("forget", "retain", "held_out", "general")
PRETRAINED = "pretrained:"
PRETRAINED_MODELS = ("smollm2-135m",)
GGUF = ".gguf"
"""How names of GGUF files end, in small letters or capitals."""

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
"""Endings of data files that can be read."""

NOT_READ = {
    ".txt": 'is plain text without rows: write each passage as a line {"text": "…"} of a .jsonl file',
    ".tsv": "has tabs between its cells: save it as .csv, with commas",
    ".xlsx": "is a spreadsheet: save it as .csv (UTF-8)",
    ".gz": "is compressed: unpack it",
    ".zip": "is compressed: unpack it",
}
"""Endings of files that people have, and what to do."""

LEDGER_FILE = "ledger.sqlite"


def check_model_place(model: str, flag: str = "--model") -> None:
    """Whether there may be such a model: a folder or GGUF file that is there, a hub id, or one known by name.

    Raises:
        UserError: there is none.
    """
    if model.startswith(BUILTIN):
        if model.removeprefix(BUILTIN) not in BUILTIN_MODELS:
            raise UserError(f"{flag} {model}: the built-in models are builtin:target, builtin:retain and builtin:base")
        return
    if model.startswith(PRETRAINED):
        name = model.removeprefix(PRETRAINED)
        if name not in PRETRAINED_MODELS:
            close = nearest(name, PRETRAINED_MODELS)
            raise UserError(f"{flag} {model}: no pretrained model is known by that name{close}")
        return
    folder = Path(model).expanduser()
    if folder.is_dir() or (folder.suffix.lower() == GGUF and folder.is_file()):
        return
    if folder.exists():
        raise UserError(f"{flag} {model}: no such folder, and no .gguf file")
    if model.count("/") != 1 or model.startswith((".", "/", "~")):
        raise UserError(f"{flag} {model}: no such folder")
    runs = [file.parent.name for file in folder.parent.glob("*/run.json")]
    if runs:  # nobody on the hub is called like a folder of runs
        raise UserError(f"{flag} {model}: no such folder{nearest(folder.name, runs)}")


def check_rows_place(source: str) -> None:
    """Whether there may be rows: a file or folder that is there, ``FOLDER:NAME``, a hub data set, or built-in ones.

    Raises:
        UserError: there are none, or a file of a kind that is not read.
    """
    source = without_slice(source)
    path = data_path(source)
    head, _, name = source.partition(":")
    if path.exists():
        _check_ending(path)
        return
    if head == BUILTIN.rstrip(":"):
        if name not in BUILTIN_ROWS:
            raise UserError(f"{source}: no such set in the built-in benchmark{nearest(name, BUILTIN_ROWS)}")
        return
    if name and data_path(head).is_dir():
        find_in_folder(data_path(head), name)
        return
    if path.suffix in SUFFIXES or source.startswith((".", "/", "~")) or head.count("/") != 1:
        raise UserError(f"{source}: no such file, folder or hub data set (owner/name)")


def sources_in(text: str) -> list[str]:
    """``a.jsonl+b.jsonl`` are two sources, unless a file is called so."""
    if Path(text).expanduser().exists():
        return [text]
    return text.split("+")


def _check_ending(path: Path) -> None:
    if path.is_file() and path.suffix in NOT_READ:
        raise UserError(f"{path} {NOT_READ[path.suffix]}")


def check_ledger_place(folder: Path) -> None:
    """Whether a folder holds a ledger.

    Raises:
        UserError: it does not.
    """
    if not (folder / LEDGER_FILE).is_file():
        raise UserError(f"{folder} holds no ledger: gru requests init {folder} ... makes one")


def without_slice(source: str) -> str:
    """``people.jsonl[:8]`` → ``people.jsonl``."""
    found = SLICE.fullmatch(source)
    return found[1] if found else source


SLICE = re.compile(r"(.+)\[(\d{0,18}):(\d{0,18})\]")
"""A source, and from which to which of its rows."""


def data_path(source: str) -> Path:
    """A source as a path, which need not exist.

    Raises:
        UserError: it is empty, or the system knows no such names.
    """
    if not source.strip():
        raise UserError("the name of a data file or data set is empty")
    try:
        path = Path(source).expanduser()
        path.exists()  # here, because it refuses some names
    except (OSError, RuntimeError, ValueError):
        raise UserError(f"{source[:80]}: no such file, folder or hub data set (owner/name)") from None
    return path


def find_in_folder(folder: Path, name: str) -> Path:
    """The data file called ``name``, with or without its ending, in ``folder``.

    Raises:
        UserError: no such file; the message suggests the nearest name.
    """
    if (folder / name).is_file():
        return folder / name
    found = [file for ending in SUFFIXES if (file := folder / f"{name}{ending}").is_file()]
    if len(found) > 1:
        raise UserError(f"{folder}: {name} may be {' or '.join(file.name for file in found)}: name it with its ending")
    if found:
        return found[0]
    names = [file.stem for file in data_files(folder)]
    raise UserError(f"{folder}: no data file {name!r}{nearest(name, names)}")


def has_file(folder: Path, name: str) -> bool:
    """Whether a folder holds a data file called ``name``, without its ending."""
    return any((folder / f"{name}{ending}").is_file() for ending in SUFFIXES)


def data_files(folder: Path) -> list[Path]:
    """All files in a folder whose rows can be read."""
    return sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES)
