"""CSV files as RFC 4180 has them: a cell with a comma, a quotation mark or a line break stands in quotation marks, and
a quotation mark in it is doubled. What is written otherwise is refused, because it can be read in two ways."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence

from gru_unlearn.data.layouts import listed
from gru_unlearn.errors import UserError

Cells = list[str]

_OTHERWISE = (
    (r"\s+\".*", "a blank before a quotation mark: take it out"),
    (r"'[^']*''.*'", "single quotation marks around it: use double ones"),
)
"""How a cell without double quotation marks around it looks that another dialect wrote, and what to do."""

HOW = 'put a cell with commas, quotation marks or line breaks in "…", and double the marks in it'


def parse_csv(text: str, name: str) -> list[dict[str, str]]:
    """The rows below the head line; blank lines are none, and a column without a name is called by its number.

    Raises:
        UserError: no table whose every cell belongs to a field; ``name`` begins the message.
    """
    if '\\"' in text and _reads_with_backslashes(text):
        line = text[: text.index('\\"')].count("\n") + 1
        raise UserError(f'{name}, line {line}: a quotation mark after a backslash: write "" for each mark in a cell')
    table = _table(text, name)
    head = next(table, [])
    fields = [field or f"column {number}" for number, field in enumerate(head, start=1)]
    _check_head(fields, name)
    rows = []
    for number, cells in enumerate(table, start=1):
        where = f"{name}, row {number}"
        if len(cells) != len(fields):
            raise UserError(f"{where} has {len(cells)} cells, the head line has {len(fields)} fields: {HOW}")
        row = dict(zip(fields, cells, strict=True))
        _check_marks(row, text, where)
        rows.append(row)
    return rows


def _reads_with_backslashes(text: str) -> bool:
    """Whether it is a table as well if a backslash before a quotation mark, and not a second mark, makes it content."""
    other = csv.reader(io.StringIO(text, newline=""), strict=True, doublequote=False, escapechar="\\")
    try:
        return len({len(cells) for cells in other if cells}) == 1
    except csv.Error:
        return False


def _table(text: str, name: str) -> Iterator[Cells]:
    """Cells, line by line, but for blank lines."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        yield from filter(None, reader)
    except csv.Error as error:
        raise UserError(f"{name}, line {reader.line_num}: not valid CSV ({error}): {HOW}") from None


def _check_head(fields: Sequence[str], name: str) -> None:
    twice = sorted({field for field in fields if fields.count(field) > 1})
    if twice:
        raise UserError(f"{name}: the head line has the field {listed(twice[:1])} twice: rename one")
    if len(fields) == 1 and (mark := re.search(r"[;\t|]", fields[0])):
        raise UserError(f"{name}: the head line has {mark.group()!r} between its fields: separate cells by commas")


def _check_marks(row: Mapping[str, str], text: str, where: str) -> None:
    """No cell may be what another dialect would read otherwise."""
    for field, cell in row.items():
        for pattern, told in _OTHERWISE:
            if re.fullmatch(pattern, cell, re.DOTALL) and _in_marks(cell) not in text:
                raise UserError(f"{where}: {listed([field])} has {told}")


def _in_marks(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"'
