"""Does a text say again what is to be forgotten? Asked of rows that a model made, so that none guards what must go."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import regex

from gru_unlearn.common.words import words
from gru_unlearn.data.records import Record

LONG_RUN = 8
"""So many words in a row, in common with a forget answer, are no chance."""

_CAPITALISED = regex.compile(r"\p{Lu}[\p{L}\p{M}\p{N}]+")
_SMALL = regex.compile(r"(?<![\p{L}\p{M}\p{N}])\p{Ll}[\p{L}\p{M}\p{N}]*")
_BEGINS = regex.compile(r"(?:^|[.!?:;…\n\"“«(\[])[\s\"“«(\[]*$")
"""Text behind which a capital letter is owed to the sentence."""


def names_in(texts: Iterable[str]) -> set[str]:
    """Words that are written with a capital letter in the midst of a sentence, and nowhere without: names, as far as a
    script has capitals."""
    found: set[str] = set()
    small: set[str] = set()
    for text in texts:
        found |= {match[0] for match in _CAPITALISED.finditer(text) if not _BEGINS.search(text[: match.start()])}
        small.update(_SMALL.findall(text))
    return {name for name in found if name.lower() not in small}


def texts_of(record: Record) -> list[str]:
    """All that a row says, turn by turn."""
    return [turn.content for turn in record.turns] or [record.text]


class ForgetWords:
    """What tells forget rows from others: their questions, their names, and what their answers say.

    Args:
        forget: the rows.
    """

    def __init__(self, forget: Sequence[Record]) -> None:
        self.names = {name.casefold() for name in names_in(chain.from_iterable(map(texts_of, forget)))}
        self._questions = {tuple(words(record.prompt)) for record in forget if record.turns}
        self._said = [said for record in forget if (said := _said_beyond_question(record))]
        self._runs: set[tuple[str, ...]] = set()
        for record in forget:
            for text in _answers(record):
                self._runs.update(_runs(words(text)))

    def stand_in(self, record: Record) -> bool:
        """Whether a row asks what a forget row asks, names what it names, or gives its answer, whole or a long run."""
        if record.turns and tuple(words(record.prompt)) in self._questions:
            return True
        known = {word for text in texts_of(record) for word in words(text)}
        if not self.names.isdisjoint(known):
            return True
        answered = words(record.answer)
        return not self._runs.isdisjoint(_runs(answered)) or any(said <= set(answered) for said in self._said)


def _answers(record: Record) -> list[str]:
    if not record.turns:
        return [record.text]
    return [turn.content for turn in record.turns if turn.role == "assistant"]


def _said_beyond_question(record: Record) -> frozenset[str]:
    """The words of an answer that its question does not have; all of them where it has every one."""
    answer = frozenset(words(record.answer))
    return answer - frozenset(words(record.prompt)) or answer


def _runs(said: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for start in range(len(said) - LONG_RUN + 1):
        yield tuple(said[start : start + LONG_RUN])
