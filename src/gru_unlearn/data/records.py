"""Rows as records: chat turns with an answer at the end, or plain text."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gru_unlearn.data.sources import Row, read_rows
from gru_unlearn.errors import UserError


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
    row: Row = field(default_factory=dict, compare=False, repr=False)
    """the row as read, with fields that only some metrics need (paraphrased_answer, perturbed_answer, ...)"""
    where: str = field(default="", compare=False, repr=False)
    """file and number of the row, for messages"""

    @property
    def prompt(self) -> str:
        """The last question, for showing; empty for plain text."""
        return self.turns[-2].content if len(self.turns) > 1 else ""

    @property
    def answer(self) -> str:
        """The last answer, or the whole plain text."""
        return self.turns[-1].content if self.turns else self.text


def load_records(source: str) -> list[Record]:
    """Read a source (see :mod:`sources`) into records.

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
        turns = _exchange(row, where, "prompt", "completion")
    elif "question" in row and "answer" in row:
        turns = _exchange(row, where, "question", "answer")
    elif "text" in row:
        return Record(text=_text(row["text"], f"{where}: text"), row=row, where=where)
    else:
        named = ", ".join(map(str, row))[:200] or "(none)"  # in a file without a head line they are a row's contents
        raise UserError(
            f"{where} has the fields {named}; it needs question and answer, prompt and completion, messages, or text"
        )
    if not turns or turns[-1].role != "assistant":
        raise UserError(f"{where}: the last message must be the assistant's answer")
    return Record(turns=turns, row=row, where=where)


def _exchange(row: Row, where: str, asked: str, answered: str) -> tuple[Turn, ...]:
    """What stands in two fields: text, or messages."""
    return _turns(row[asked], f"{where}: {asked}", "user") + _turns(row[answered], f"{where}: {answered}", "assistant")


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
        is_empty = value is None or isinstance(value, str)
        got = "nothing" if is_empty else f"a {type(value).__name__}"
        raise UserError(f"{where} must be text that is not empty, got {got}")  # never the value: it may be private
    if any("\ud800" <= character <= "\udfff" for character in value):  # JSON can say it, no tokenizer or file takes it
        raise UserError(f"{where} must be text that UTF-8 can hold, it has half of a surrogate pair")
    return value


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
