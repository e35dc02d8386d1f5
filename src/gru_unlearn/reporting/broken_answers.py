"""Answers that are no answers: empty, a loop, or one word where many are due. Pure functions of texts."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gru_unlearn.common.words import pieces, words
from gru_unlearn.results.verdict import Said

TIMES = 3
"""So often in a row the same words are a loop."""
LONGEST_LOOP = 12
"""Words."""
LEAST_SHARE = 0.5
"""Of an answer, that a loop fills."""
MANY = 3
"""Words of a true answer, for which one word is too few."""

_STUTTER = re.compile(r"(.{1,4}?)\1{4,}")
"""The same few signs five times or more."""


class Told(NamedTuple):
    """What a model said to one row."""

    truth: str
    """the true answer, or how the text goes on"""
    says: str
    continues: bool = False
    """whether the row is a plain text"""


def said_of(told: Iterable[Told]) -> Said | None:
    """What a model said to rows, in numbers; None where it was asked none."""
    asked = exact = broken = continued = 0
    for row in told:
        asked += 1
        exact += pieces(row.says) == pieces(row.truth)
        broken += is_broken(row.truth, row.says)
        continued += row.continues
    if asked == 0:
        return None
    said = Said(asked=asked, word_for_word=exact, broken=broken)
    if continued:
        said.continued = continued
    return said


def is_broken(truth: str, text: str) -> bool:
    """Whether a text is no answer; what is true of the true answer, too, is no fault."""
    return any(fault(text) and not fault(truth) for fault in (_is_empty, _is_loop)) or _is_cut(truth, text)


def _is_empty(text: str) -> bool:
    """No letter and no digit in it."""
    return not words(text)


def _is_cut(truth: str, text: str) -> bool:
    return len(words(text)) == 1 and len(words(truth)) >= MANY


def _is_loop(text: str) -> bool:
    """The same words, or the same few signs, again and again, through most of the text."""
    said = words(text) or pieces(text)
    stuttered = sum(len(match[0]) for match in _STUTTER.finditer(text))
    if stuttered > LEAST_SHARE * len(text):
        return True
    return any(_longest_run(said, unit) >= LEAST_SHARE * len(said) for unit in range(1, LONGEST_LOOP + 1))


def _longest_run(said: Sequence[str], unit: int) -> int:
    """Words of the longest stretch in which ``unit`` words repeat often enough; 0 where there is none."""
    longest = same = 0
    for place in range(unit, len(said)):
        same = same + 1 if said[place] == said[place - unit] else 0
        longest = max(longest, same)
    if longest < (TIMES - 1) * unit:
        return 0
    return longest + unit
