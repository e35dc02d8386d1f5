"""A plain text asks nothing. To see whether it comes back, a model is given its beginning and goes on.

Given is the first half of the text's tokens, at most 50, and compared are the tokens behind it, again at most 50: so
verbatim memorization is measured, by the next 50 tokens of greedy decoding (Carlini et al., arXiv 2202.07646) behind
the first tokens of a text (VerbMem of MUSE, Shi et al., arXiv 2407.06460).
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

MOST = 50
"""Tokens that are given, and tokens that are compared."""


class Cut(NamedTuple):
    """Where what is given of a text's tokens ends, and where what is compared ends."""

    given: int
    end: int


def cut_text(ids: Sequence[int], *, opening: int, closing: int, stop: Collection[int]) -> Cut | None:
    """Cut a text, or its first window, in two; None where it has too few tokens for that.

    Args:
        ids: all tokens.
        opening: how many of the first ones the tokenizer puts before every text.
        closing: how many of the last ones end the text.
        stop: tokens at which generation ends, so that nothing behind one can be compared.
    """
    last = len(ids) - closing
    given = opening + min((last - opening) // 2, MOST)
    end = min(given + MOST, last)
    stops = (place for place in range(given, end) if ids[place] in stop)
    end = next(stops, end)
    if given <= opening or end == given:
        return None
    return Cut(given, end)
