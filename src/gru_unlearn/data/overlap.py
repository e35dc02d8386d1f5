"""Rows that say the same, in one set or in two, however blanks, line ends and accents in them are written."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from gru_unlearn.data.layouts import listed, unread
from gru_unlearn.data.records import Record, Turn
from gru_unlearn.errors import UserError


def canonical(record: Record) -> Record:
    """The record in one way of writing: accents composed (NFC), line ends as ``\\n``, no blanks around its texts.

    Most tokenizers make the same tokens of the ways that are levelled here, and readers see no difference.
    """
    turns = tuple(Turn(turn.role, _canonical(turn.content)) for turn in record.turns)
    return replace(record, turns=turns, text=_canonical(record.text))


def _canonical(text: str) -> str:
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def overlapping(records: Iterable[Record], others: Iterable[Record]) -> list[Record]:
    """The records that say the same as one of the others."""
    known = set(map(canonical, others))
    return [record for record in records if canonical(record) in known]


def count_overlap(forget: Iterable[Record], retain: Iterable[Record]) -> int:
    """How many forget records say the same as one of the retain records."""
    return len(overlapping(forget, retain))


def count_repeated(records: Sequence[Record]) -> int:
    """How many records say the same as an earlier one of their set."""
    return len(records) - len(set(map(canonical, records)))


def check_apart(sets: Mapping[str, Sequence[Record]], pairs: Iterable[tuple[str, str]], mend: str) -> None:
    """No row may be in both sets of a pair, of those sets that there are.

    Raises:
        UserError: how many rows are, which is the first of them, and ``mend``, what to do.
    """
    for one, other in pairs:
        both = overlapping(sets.get(one, ()), sets.get(other, ()))
        if both:
            first = f" (the first: {both[0].where})" if both[0].where else ""
            raise UserError(f"{len(both)} of {len(sets[one])} {one} rows are also in the {other} set{first}: {mend}")


def describe_rows(records: Sequence[Record]) -> str:
    """``40 rows``, how many of them are there twice, and which of their fields are not learnt, for people."""
    told = f"{len(records)} rows"
    if repeated := count_repeated(records):
        told += f", {repeated} of them repeated"
    fields = dict.fromkeys(chain.from_iterable(unread(record.row) for record in records))
    if fields:
        told += f", not learnt: {listed(fields)}"
    return told
