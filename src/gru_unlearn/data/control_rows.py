"""Control rows: the forget rows with invented names, numbers and dates in the places of theirs.

Nobody knows what they say, and they have the forget rows' form: what a model that never saw the forget rows makes of
these is about what it makes of those.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from random import Random

import regex

from gru_unlearn.data.invented_words import FAMILY, GIVEN, MONTHS, SMALL, TITLE, WEEKDAYS
from gru_unlearn.data.records import Record

SEED = 0
LONG_PHRASE = 3
"""So many words with capital letters in a row are a title or an office, fewer are a name."""
YEARS = range(1000, 2101)
MOST_MONTHS, MOST_DAYS = 12, 31

_CAPITAL = r"\p{Lu}[\p{L}\p{M}]*+"
_BETWEEN = r"(?:[ .'’-]{1,2}|\ (?:of|the|for|in|on|and|de|von|van|al|la|le|del|da|di|to|a)\ (?:the\ )?)"
_PHRASE = regex.compile(rf"(?<![\p{{L}}\p{{M}}]){_CAPITAL}(?:{_BETWEEN}{_CAPITAL})*")
_WORD = regex.compile(r"\d+|[\p{L}\p{M}]+")
_CAPITAL_WORD = regex.compile(_CAPITAL)
_BEGINS_SENTENCE = regex.compile(r"(?:^|[.!?:;\n])[\s\"'“”‘’«»„(\[{*–—•-]*$")


def make_control_rows(records: Sequence[Record], seed: int = SEED) -> list[Record]:
    """Rows in which all that identifies is swapped for something invented of its kind, the same everywhere.

    Swapped are numbers, months, weekdays, abbreviations, and words with a capital letter that do not have it from the
    beginning of a sentence alone. Rows in which nothing was swapped are left out; the others keep their order.
    """
    texts = [text for record in records for text in _texts_of(record)]
    swaps = _swaps(texts, Random(seed))
    made = []
    for record in records:
        changed = _swapped(record, swaps)
        if changed != record:
            made.append(changed)
    return made


def _texts_of(record: Record) -> Iterator[str]:
    """What it says of its subject; a system text says what the model is to be."""
    yield record.text
    yield from (turn.content for turn in record.turns if turn.role != "system")


def _swapped(record: Record, swaps: Mapping[str, str]) -> Record:
    turns = []
    for turn in record.turns:
        content = turn.content
        if turn.role != "system":
            content = _say(content, swaps)
        turns.append(replace(turn, content=content))
    return replace(record, turns=tuple(turns), text=_say(record.text, swaps))


def _say(text: str, swaps: Mapping[str, str]) -> str:
    return _WORD.sub(lambda found: swaps.get(found[0], found[0]), text)


# --- what identifies, and what stands in its place -------------------------------------------------------------------


def _swaps(texts: Sequence[str], rng: Random) -> dict[str, str]:
    """Word that identifies → the one in its place; no two words get the same, as far as there are enough."""
    words = dict.fromkeys(chain.from_iterable(_WORD.findall(text) for text in texts))
    kinds: dict[str, tuple[str, ...]] = {}
    for text in texts:
        for word, kind in _named(text):
            kinds.setdefault(word, kind)
    unused = {pool: _shuffled(set(pool) - words.keys(), rng) for pool in (GIVEN, FAMILY, TITLE, MONTHS, WEEKDAYS)}
    swaps = {}
    for word in words:
        if word.isdecimal():
            swaps[word] = _other_number(word, rng)
        elif word in kinds:
            swaps[word] = _other_word(word, kinds[word], unused, rng)
    return swaps


def _named(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Words that identify, each with those that may stand in its place."""
    has_small_words = any(word.islower() for word in _WORD.findall(text))
    for phrase in _PHRASE.finditer(text):
        words = _CAPITAL_WORD.findall(phrase[0])
        is_title = len(regex.findall(rf"{_CAPITAL}[^ ]*", phrase[0])) >= LONG_PHRASE  # a double name counts once
        if has_small_words and _BEGINS_SENTENCE.search(text[: phrase.start()]):
            del words[0]
        for place, word in enumerate(words):
            if word not in SMALL:
                yield word, _kind(word, is_title=is_title, is_first=place < len(words) - 1)


def _kind(word: str, *, is_title: bool, is_first: bool) -> tuple[str, ...]:
    for names in (MONTHS, WEEKDAYS):
        if word in names:
            return names
    if is_title:
        return TITLE
    if is_first:
        return GIVEN
    return FAMILY


def _other_word(word: str, kind: tuple[str, ...], unused: Mapping[tuple[str, ...], list[str]], rng: Random) -> str:
    if (word.isupper() and len(word) > 1) or len(word) == 1:
        return "".join(rng.choices("BDFGKLMNPRSTVZ", k=len(word)))
    if unused[kind]:
        return unused[kind].pop()
    if kind in (MONTHS, WEEKDAYS):
        return rng.choice([name for name in kind if name != word])
    return _coined(len(word), rng)


def _coined(length: int, rng: Random) -> str:
    """A word of about this length that says nothing."""
    syllables = [rng.choice("bdfgklmnprstv") + rng.choice("aeiou") for _ in range(max(2, length // 2))]
    return "".join(syllables).capitalize() + rng.choice(("", "n", "r", "s", "l"))


def _shuffled(words: Iterable[str], rng: Random) -> list[str]:
    found = sorted(words)
    rng.shuffle(found)
    return found


def _other_number(digits: str, rng: Random) -> str:
    """As many digits; years stay in their century, and what may be a month or a day may be one afterwards."""
    length = len(digits)
    if length > len("1000"):
        first = rng.choice([digit for digit in "123456789" if digit != digits[0]])
        return first + "".join(rng.choices("0123456789", k=length - 1))
    number = int(digits)
    low, high = 10 ** (length - 1), 10**length - 1
    most_months = min(MOST_MONTHS, high)
    if number in YEARS and length == len("1000"):
        low = number - number % 100
        high = low + 99
    elif 0 < number <= most_months and length <= len("12"):
        low, high = 1, most_months
    elif MOST_MONTHS < number <= MOST_DAYS and length == len("31"):
        low, high = MOST_MONTHS + 1, MOST_DAYS
    other = rng.randint(low, high - 1)
    return str(other + (other >= number)).zfill(length)


# --- rows that others made -------------------------------------------------------------------------------------------


def worded_alike(records: Iterable[Record], others: Iterable[Record]) -> int:
    """How many records are one of the others but for what identifies, and may have been made of it."""
    known = {_wording(record) for record in others}
    return sum(_wording(record) in known for record in records)


def _wording(record: Record) -> tuple[str, ...]:
    """A record without its numbers and the phrases with capital letters."""
    return tuple(_WORD.sub(_small_alone, _PHRASE.sub("", text)) for text in _texts_of(record))


def _small_alone(found: "regex.Match[str]") -> str:
    word: str = found[0]
    if word.isdecimal():
        return ""
    return word
