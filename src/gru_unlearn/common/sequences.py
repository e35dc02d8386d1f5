"""Selections from sequences, and what two of them have in common."""

import math
from collections.abc import Sequence
from typing import TypeVar

Selected = TypeVar("Selected")

_GOLDEN = (math.sqrt(5) - 1) / 2


def in_parts(items: Sequence[Selected], count: int) -> list[Sequence[Selected]]:
    """The sequence cut into so many parts of one length, or of two that differ by one."""
    return [items[part * len(items) // count : (part + 1) * len(items) // count] for part in range(count)]


def evenly_spread(items: Sequence[Selected], limit: int | None) -> list[Selected]:
    """At most ``limit`` of the items, in their order: one of each of as many equal parts of the sequence, so that no
    author or topic is left out.

    Its place within the part changes from part to part (by the golden ratio, the fractional parts of whose multiples
    lie as evenly as any). Rows often come in blocks of one form, such as twenty questions on each author, of which
    every tenth row would be the same question again and again.
    """
    if limit is None or len(items) <= limit:
        return list(items)
    return [part[int(number * _GOLDEN % 1 * len(part))] for number, part in enumerate(in_parts(items, limit), start=1)]


def common_prefix_length(one: Sequence[object], other: Sequence[object]) -> int:
    """How many items two sequences begin with alike."""
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return min(len(one), len(other))
