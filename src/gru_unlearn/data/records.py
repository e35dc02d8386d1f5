"""Rows from a file, a folder or the hub, as records: chat turns with an answer at the end, or plain text.

A source is written as one string:

- a file: ``people.jsonl``, ``.json`` (a list, or one object a line), ``.csv``, ``.parquet``;
- a folder saved by ``datasets.save_to_disk``, or one that holds a single data file;
- ``FOLDER:NAME``, the file NAME (any of the endings above) in a folder: ``tofu:forget10``;
- a hub data set, ``owner/name``, ``owner/name:CONFIG`` or ``owner/name:CONFIG:SPLIT`` (split ``train`` unless given);
- ``builtin:forget``, ``builtin:retain``, ``builtin:held_out``, ``builtin:general``: the built-in benchmark's sets;
- any of these with a slice of its rows: ``tofu:retain90[:800]``.
"""

import csv
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gru_unlearn.errors import UserError, first_line, nearest

Row = dict[str, Any]

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a chat; ``role`` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Record:
    """One row: a conversation whose assistant turns are the answers, or (without turns) a plain text."""

    turns: tuple[Turn, ...] = ()
    text: str = ""
    row: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """the row as read, with fields that only some metrics need (paraphrased_answer, perturbed_answer, ...)"""

    @property
    def prompt(self) -> str:
        """The last question, for showing; empty for plain text."""
        return self.turns[-2].content if len(self.turns) > 1 else ""

    @property
    def answer(self) -> str:
        """The last answer, or the whole plain text."""
        return self.turns[-1].content if self.turns else self.text


def load_records(source: str) -> list[Record]:
    """Read a source (see the module's docstring) into records.

    Raises:
        UserError: nothing there, not readable, no row, or a row without the needed fields.
    """
    records = [to_record(row, f"{source}, row {number}") for number, row in enumerate(read_rows(source), start=1)]
    if not records:
        raise UserError(f"{source}: no rows")
    return records


def to_record(row: Row, where: str) -> Record:
    """Recognise a row by its fields: question/answer, prompt/completion, messages, or text.

    Raises:
        UserError: none of these fields, or one of them is not (non-empty) text; ``where`` begins the message.
    """
    if "messages" in row:
        turns = _turns(row["messages"], f"{where}: messages")
    elif "prompt" in row and "completion" in row:
        turns = _turns(row["prompt"], f"{where}: prompt", "user") + _turns(
            row["completion"], f"{where}: completion", "assistant"
        )
    elif "question" in row and "answer" in row:
        turns = _turns(row["question"], f"{where}: question", "user") + _turns(
            row["answer"], f"{where}: answer", "assistant"
        )
    elif "text" in row:
        return Record(text=_text(row["text"], f"{where}: text"), row=row)
    else:
        raise UserError(
            f"{where} has the fields {', '.join(map(str, row)) or '(none)'}; "
            "it needs question and answer, prompt and completion, messages, or text"
        )
    if not turns or turns[-1].role != "assistant":
        raise UserError(f"{where}: the last message must be the assistant's answer")
    return Record(turns=turns, row=row)


def _turns(value: Any, where: str, role: str | None = None) -> tuple[Turn, ...]:
    """A list of messages as turns; where ``role`` is given, bare text is one turn of that role."""
    if role and not isinstance(value, list):
        return (Turn(role, _text(value, where)),)
    if not isinstance(value, list) or not value:
        raise UserError(f"{where} must be a list of messages with role and content")
    turns = []
    for message in value:
        if not isinstance(message, Mapping) or message.get("role") not in ("system", "user", "assistant"):
            raise UserError(f"{where}: each message needs a role (system, user or assistant) and a content")
        turns.append(Turn(message["role"], _text(message.get("content"), f"{where}, {message['role']}")))
    return tuple(turns)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        got = "nothing" if value is None or isinstance(value, str) else f"a {type(value).__name__}"
        raise UserError(f"{where} must be text that is not empty, got {got}")  # never the value: it may be private
    if any("\ud800" <= character <= "\udfff" for character in value):  # JSON can say it, no tokenizer or file takes it
        raise UserError(f"{where} must be text that UTF-8 can hold, it has half of a surrogate pair")
    return value


def read_rows(source: str) -> list[Row]:
    """All rows of a source (see the module's docstring), as dictionaries.

    Raises:
        UserError: nothing there, or not readable.
    """
    if slice_ := re.fullmatch(r"(.+)\[(\d{0,18}):(\d{0,18})\]", source):
        start, stop = (int(bound) if bound else None for bound in slice_.group(2, 3))
        return read_rows(slice_[1])[start:stop]
    path = _path(source)
    if path.is_file():
        return _read_file(path)
    if path.is_dir():
        return _read_folder(path)
    head, _, name = source.partition(":")
    if head == "builtin":
        return _read_builtin(name)
    if name and (folder := _path(head)).is_dir():
        return _read_file(find_in_folder(folder, name))
    if path.suffix in SUFFIXES or source.startswith((".", "/", "~")) or head.count("/") != 1:
        raise UserError(f"{source}: no such file, folder or hub data set (owner/name)")
    if name.count(":") > 1:
        raise UserError(f"{source}: a hub data set is named owner/name, owner/name:CONFIG or owner/name:CONFIG:SPLIT")
    return _read_hub(head, *name.split(":")) if name else _read_hub(head)


def _path(source: str) -> Path:
    if not source.strip():
        raise UserError("the name of a data file or data set is empty")
    try:
        path = Path(source).expanduser()
        path.exists()  # here, because it refuses some names
    except (OSError, RuntimeError, ValueError):
        raise UserError(f"{source[:80]}: no such file, folder or hub data set (owner/name)") from None
    return path


def _read_builtin(name: str) -> list[Row]:
    from gru_unlearn.data.people import make_people  # noqa: PLC0415 - it builds rows, and so imports this module

    sets = make_people()
    if name not in sets:
        raise UserError(f"builtin:{name}: no such set in the built-in benchmark{nearest(name, sets)}")
    return sets[name]


def find_in_folder(folder: Path, name: str) -> Path:
    """The data file called ``name``, with or without its ending, in ``folder``.

    Raises:
        UserError: no such file; the message suggests the nearest name.
    """
    for candidate in (folder / name, *(folder / f"{name}{suffix}" for suffix in SUFFIXES)):
        if candidate.is_file():
            return candidate
    raise UserError(f"{folder}: no data file {name!r}{nearest(name, (f.stem for f in _data_files(folder)))}")


def _data_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES)


def _read_folder(folder: Path) -> list[Row]:
    if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
        from datasets import DatasetDict, load_from_disk  # noqa: PLC0415 - slow to import

        try:
            data = load_from_disk(str(folder))
        except Exception as error:  # many types; each becomes one line
            raise UserError(f"{folder} cannot be read as a saved data set ({first_line(error)})") from None
        if isinstance(data, DatasetDict):
            if len(data) != 1:
                raise UserError(
                    f"{folder} holds several splits ({', '.join(data)}): name one, {folder}/{next(iter(data))}"
                )
            data = next(iter(data.values()))
        return list(data)
    files = _data_files(folder)
    if len(files) != 1:
        found = ", ".join(file.stem for file in files) or "none"
        raise UserError(f"{folder} must hold one data file, or name one as {folder}:NAME; found: {found}")
    return _read_file(files[0])


def _read_file(path: Path) -> list[Row]:
    try:
        match path.suffix:
            case ".csv":
                with path.open(encoding="utf-8-sig", newline="") as file:
                    return list(csv.DictReader(file))
            case ".parquet":
                import pyarrow.parquet  # noqa: PLC0415 - slow to import

                return pyarrow.parquet.read_table(path).to_pylist()
            case _:
                return _read_json(path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: byte {error.start}") from None
    except RecursionError:
        raise UserError(f"{path} cannot be read: nested too deeply") from None
    except (OSError, csv.Error, ValueError) as error:
        raise UserError(f"{path} cannot be read: {first_line(error)}") from None


def _read_json(path: Path) -> list[Row]:
    content = path.read_text(encoding="utf-8-sig")
    if content.lstrip().startswith("["):
        try:
            rows = list(enumerate(json.loads(content), start=1))
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {error.lineno}: not valid JSON ({error.msg})") from None
        unit = "row"
    else:
        unit, rows = "line", []
        for number, line in enumerate(content.split("\n"), start=1):
            try:
                if line.strip():
                    rows.append((number, json.loads(line)))
            except json.JSONDecodeError as error:
                raise UserError(f"{path}, line {number}: not valid JSON ({error.msg})") from None
    for number, row in rows:
        if not isinstance(row, dict):
            raise UserError(f"{path}, {unit} {number}: expected an object with fields, got a {type(row).__name__}")
    return [row for _, row in rows]


def _read_hub(name: str, config: str | None = None, split: str = "train") -> list[Row]:
    from datasets import load_dataset  # noqa: PLC0415 - slow to import

    try:
        return list(load_dataset(name, config, split=split))
    except Exception as error:  # the hub client raises many types; each becomes one line
        raise UserError(f"{name}: cannot be loaded from the hub ({first_line(error)})") from None


def count_overlap(forget: Iterable[Record], retain: Iterable[Record]) -> int:
    """How many forget records (same turns, or same text) are also in the retain records."""
    kept = {(record.turns, record.text) for record in retain}
    return sum((record.turns, record.text) in kept for record in forget)


def fingerprint(records: Iterable[Record]) -> str:
    """SHA-256 over the records' contents, in order: two sets with equal fingerprints train and score alike."""
    digest = hashlib.sha256()
    for record in records:
        turns = [(turn.role, turn.content) for turn in record.turns]
        digest.update(json.dumps([turns, record.text], ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()
