"""Records as rows of a file, to be read again."""

import json
from collections.abc import Sequence
from pathlib import Path

from gru_unlearn.common.files import write_text
from gru_unlearn.data.records import Record
from gru_unlearn.data.sources import Row


def row_of(record: Record) -> Row:
    """The row that it was read from, else one that is read as this record."""
    if record.row:
        return record.row
    if not record.turns:
        return {"text": record.text}
    if [turn.role for turn in record.turns] == ["user", "assistant"]:
        return {"question": record.prompt, "answer": record.answer}
    return {"messages": [{"role": turn.role, "content": turn.content} for turn in record.turns]}


def write_rows(path: Path, records: Sequence[Record]) -> None:
    """A line each, whole or not at all."""
    lines = [json.dumps(row_of(record), ensure_ascii=False, default=str) for record in records]
    write_text(path, "".join(f"{line}\n" for line in lines))
