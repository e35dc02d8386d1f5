"""JSON files: a list of rows, one row a line, one row, rows below one name, or fields with their rows by number."""

import json
from collections import Counter
from typing import Any

from gru_unlearn.data.layouts import listed
from gru_unlearn.errors import UserError, kind_in_words

HOLDERS = ("data", "examples", "instances", "rows", "train")
"""What the one field of an object may be called that holds the rows of a file."""


def parse_json(text: str, name: str, *, by_line: bool) -> list[dict[str, Any]]:
    """The rows; plain texts in a list become rows with the field ``text``.

    Args:
        text: what the file holds.
        name: begins each message.
        by_line: JSON Lines by its name, so that an error is looked for in its own line.

    Raises:
        UserError: not valid JSON, or what is no row.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")  # between values only: no JSON text holds them as they are
    if text.lstrip().startswith("["):
        return _rows(_parse(text, name), name, "row")
    values = None if by_line else _whole(text, name)
    if values is not None:
        return _rows(values, name, "row")
    numbered = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    lines = [_parse(line, name, number) for number, line in numbered]
    if len(lines) == 1 and (rows := _turned(lines[0])):
        return rows
    return _rows(lines, name, "line", [number for number, _ in numbered])


def _whole(text: str, name: str) -> list[Any] | None:
    """The rows of a file that is one object; None if there is something after the first."""
    if not text.strip():
        return []
    try:
        found = _parse(text, name)
    except _MoreThanOne:
        return None
    if isinstance(found, dict) and len(found) == 1:
        holder, rows = next(iter(found.items()))
        if holder in HOLDERS and isinstance(rows, list):
            return rows
    return _turned(found) or [found]


def _turned(value: Any) -> list[dict[str, Any]]:
    """The rows of what ``DataFrame.to_json(path)`` of pandas writes, field → number → value; none if it is not that."""
    columns = list(value.values()) if isinstance(value, dict) else []
    if not columns or not all(isinstance(column, dict) for column in columns):
        return []
    numbers = list(columns[0])
    if not all(number.isdigit() for number in numbers) or any(list(column) != numbers for column in columns):
        return []
    return [dict(zip(value, row, strict=True)) for row in zip(*(column.values() for column in columns), strict=True)]


class _MoreThanOne(UserError):
    """Something stands after the first value."""


def _parse(text: str, name: str, line: int = 1) -> Any:
    """JSON that begins in a line of a file."""

    where = name if "\n" in text.strip() else f"{name}, line {line}"

    def no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            twice = [field for field, count in Counter(field for field, _ in pairs).items() if count > 1]
            raise UserError(f"{where}: an object has the field {listed(twice[:1])} twice: rename one")
        return fields

    try:
        return json.loads(text, object_pairs_hook=no_name_twice)
    except json.JSONDecodeError as error:
        kind = _MoreThanOne if error.msg == "Extra data" else UserError
        raise kind(f"{name}, line {line + error.lineno - 1}: not valid JSON ({error.msg})") from None


def _rows(values: list[Any], name: str, unit: str, numbers: list[int] | None = None) -> list[dict[str, Any]]:
    """Objects as they are; texts, if there is nothing else."""
    if values and all(isinstance(value, str) for value in values):
        return [{"text": value} for value in values]
    for number, value in zip(numbers or range(1, len(values) + 1), values, strict=True):
        if not isinstance(value, dict):
            raise UserError(f"{name}, {unit} {number}: expected an object with fields, got {kind_in_words(value)}")
    return values
