"""Rows as records: chat turns with an answer at the end, or plain text."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gru_unlearn.data.layouts import CONTENT, OF_MESSAGES, SYSTEM, Layout, holds_content, left_over, listed, recognise
from gru_unlearn.data.sources import Row, read_rows
from gru_unlearn.errors import UserError, kind_in_words


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
    """its source and number, for messages"""

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
        UserError: nothing there, not readable, no row, or a row that :func:`to_record` refuses.
    """
    records = [to_record(row, f"{source}, row {number}") for number, row in enumerate(read_rows(source), start=1)]
    if not records:
        raise UserError(f"{source}: no rows")
    return records


def to_record(row: Row, where: str) -> Record:
    """Read a row by its layout (see :mod:`layouts`): a question with its answer, a conversation, or a plain text.

    Raises:
        UserError: no layout reads all its content, or a field is not (non-empty) text; ``where`` begins the message.
    """
    layout = recognise(row, where)
    if layout.text:
        return Record(text=_text(row[layout.text], f"{where}: {layout.text}"), row=row, where=where)
    if layout.messages:
        turns = _turns(row[layout.messages], f"{where}: {layout.messages}")
    else:
        turns = _question(row, where, layout) + _turns(row[layout.answered], f"{where}: {layout.answered}", "assistant")
    if system := _system(row, where):
        turns = _begun_by(system, turns, where)
    if turns[-1].role != "assistant":
        raise UserError(f"{where}: the last message must be the assistant's answer")
    return Record(turns=turns, row=row, where=where)


def _system(row: Row, where: str) -> list[Turn]:
    """What stands in a field of its own and comes first."""
    return [Turn("system", _text(row[name], f"{where}: {name}")) for name in SYSTEM if holds_content(row.get(name))]


def _begun_by(system: list[Turn], turns: tuple[Turn, ...], where: str) -> tuple[Turn, ...]:
    if len(system) > 1 or any(turn.role == "system" for turn in turns):
        raise UserError(f"{where} has two system texts: leave one")
    return (*system, *turns)


def _question(row: Row, where: str, layout: Layout) -> tuple[Turn, ...]:
    """Text, with its details below, or messages."""
    asked = row[layout.asked]
    if not holds_content(row.get(layout.details)):
        return _turns(asked, f"{where}: {layout.asked}", "user")
    details = _text(row[layout.details], f"{where}: {layout.details}")
    return (Turn("user", f"{_text(asked, f'{where}: {layout.asked}')}\n{details}"),)


_ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}
"""What a message calls its speaker → the role; ShareGPT has names of its own."""


def _turns(value: Any, where: str, role: str | None = None) -> tuple[Turn, ...]:
    """A list of messages as turns; where ``role`` is given, bare text is one turn of that role."""
    if role and not isinstance(value, list):
        return (Turn(role, _text(value, where)),)
    if not isinstance(value, list) or not value:
        raise UserError(f"{where} must be a list of messages with role and content")
    if all(isinstance(message, str) for message in value):
        raise UserError(f"{where} is a list of {len(value)} texts: make a row of each that is meant")
    return tuple(_turn(message, where) for message in value)


def _turn(message: Any, where: str) -> Turn:
    """``role`` and ``content``, or ShareGPT's ``from`` and ``value``."""
    speaker, said = "role", "content"
    if isinstance(message, Mapping) and "from" in message:
        speaker, said = "from", "value"
    role = _ROLES.get(str(message.get(speaker))) if isinstance(message, Mapping) else None
    if role is None:
        raise UserError(f"{where}: each message needs a role (system, user or assistant) and a content")
    if lost := left_over(message, (speaker, said), CONTENT | OF_MESSAGES):
        raise UserError(f"{where}, {role}: a message holds {listed(lost)} beside its {said}: take it out")
    for mark in ("weight", "train"):
        if mark in message and not message[mark]:
            raise UserError(f"{where}, {role}: {mark} {message[mark]!r} excludes this message: take the message out")
    return Turn(role, _text(message.get(said), f"{where}, {role}"))


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        is_empty = value is None or isinstance(value, str)
        got = "nothing" if is_empty else kind_in_words(value)
        raise UserError(f"{where} must be text that is not empty, got {got}")  # never the value: it may be private
    if any("\ud800" <= character <= "\udfff" for character in value):  # JSON can say it, no tokenizer or file takes it
        raise UserError(f"{where} must be text that UTF-8 can hold, it has half of a surrogate pair")
    return value


def fingerprint(records: Iterable[Record]) -> str:
    """SHA-256 over the records' contents to the letter, in order: two sets with equal ones train and score alike."""
    digest = hashlib.sha256()
    for record in records:
        turns = [(turn.role, turn.content) for turn in record.turns]
        digest.update(json.dumps([turns, record.text], ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()
