"""Rows from a file, a folder or the hub, as they stand there.

A source is written as one string:

- a file: ``people.jsonl``, ``.json`` (see :mod:`json_files`), ``.csv`` (see :mod:`csv_files`), ``.parquet``;
- a folder saved by ``datasets.save_to_disk``, or one that holds a single data file;
- ``FOLDER:NAME``, the file NAME (any of the endings above) in a folder: ``tofu:forget10``;
- a hub data set, ``owner/name``, ``owner/name:CONFIG`` or ``owner/name:CONFIG:SPLIT`` (split ``train`` unless given);
- ``builtin:forget``, ``builtin:retain``, ``builtin:held_out``, ``builtin:general``: the built-in benchmark's sets;
- any of these with a slice of its rows: ``tofu:retain90[:800]``.
"""

from pathlib import Path
from typing import Any

from gru_unlearn.common.places import SLICE, check_rows_place, data_files, data_path, find_in_folder
from gru_unlearn.data.csv_files import parse_csv
from gru_unlearn.data.json_files import parse_json
from gru_unlearn.data.people import make_people
from gru_unlearn.errors import UserError, first_line

Row = dict[str, Any]
"""Field → what stands in it, which may be anything that JSON knows."""


def read_rows(source: str) -> list[Row]:
    """All rows of a source (see the module's docstring), as dictionaries.

    Raises:
        UserError: nothing there, or not readable.
    """
    if found := SLICE.fullmatch(source):
        whole, start, stop = found.groups()
        return read_rows(whole)[int(start or 0) : int(stop) if stop else None]
    check_rows_place(source)
    path = data_path(source)
    if path.is_file():
        return _read_file(path)
    if path.is_dir():
        return _read_folder(path)
    head, _, name = source.partition(":")
    if head == "builtin":
        return _read_builtin(name)
    if name and (folder := data_path(head)).is_dir():
        return _read_file(find_in_folder(folder, name))
    return _read_hub(source)


def _read_builtin(name: str) -> list[Row]:
    return [dict(row) for row in make_people()[name]]


def _read_folder(folder: Path) -> list[Row]:
    if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
        return _read_saved(folder)
    files = data_files(folder)
    if len(files) != 1:
        found = ", ".join(file.stem for file in files) or "none"
        raise UserError(f"{folder} must hold one data file, or name one as {folder}:NAME; found: {found}")
    return _read_file(files[0])


def _read_saved(folder: Path) -> list[Row]:
    """What ``datasets.save_to_disk`` wrote."""
    from datasets import DatasetDict, load_from_disk  # noqa: PLC0415 - slow to import

    try:
        data = load_from_disk(str(folder))
    except Exception as error:  # many types; each becomes one line
        raise UserError(f"{folder} cannot be read as a saved data set ({first_line(error)})") from None
    if not isinstance(data, DatasetDict):
        return list(data)
    if len(data) != 1:
        raise UserError(f"{folder} holds several splits ({', '.join(data)}): name one, {folder}/{next(iter(data))}")
    return list(next(iter(data.values())))


def _read_file(path: Path) -> list[Row]:
    try:
        match path.suffix:
            case ".csv":
                return parse_csv(_read_text(path), str(path))
            case ".parquet":
                return _read_parquet(path)
            case _:
                return parse_json(_read_text(path), str(path), by_line=path.suffix == ".jsonl")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: byte {error.start}: save it as UTF-8") from None
    except RecursionError:
        raise UserError(f"{path} cannot be read: nested too deeply") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {first_line(error)}") from None


def _read_text(path: Path) -> str:
    """With line ends as they are: those in a cell are its content."""
    return path.read_bytes().decode("utf-8-sig")


def _read_parquet(path: Path) -> list[Row]:
    import pyarrow.parquet  # noqa: PLC0415 - slow to import

    names = pyarrow.parquet.read_schema(path).names
    if len(set(names)) < len(names):
        raise UserError(f"{path} has two columns of one name: rename one")
    return list(pyarrow.parquet.read_table(path).to_pylist())


def _read_hub(source: str) -> list[Row]:
    """``owner/name``, ``owner/name:CONFIG`` or ``owner/name:CONFIG:SPLIT``."""
    from datasets import load_dataset  # noqa: PLC0415 - slow to import

    if source.count(":") > 2:
        raise UserError(f"{source}: a hub data set is named owner/name, owner/name:CONFIG or owner/name:CONFIG:SPLIT")
    name, config, split = [*source.split(":"), "", ""][:3]
    try:
        return list(load_dataset(name, config or None, split=split or "train"))
    except Exception as error:  # the hub client raises many types; each becomes one line
        raise UserError(
            f"{name}: no such file or folder here, and as a hub data set it cannot be loaded ({first_line(error)})"
        ) from None


def hub_splits(name: str, config: str) -> list[str]:
    """The splits of a configuration of a hub data set.

    Raises:
        UserError: the hub does not say.
    """
    from datasets import get_dataset_split_names  # noqa: PLC0415 - slow to import

    try:
        return list(get_dataset_split_names(name, config))
    except Exception as error:  # as above
        raise UserError(f"{name}: its splits cannot be read from the hub ({first_line(error)})") from None
