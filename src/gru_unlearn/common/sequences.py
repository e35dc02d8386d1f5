"""Selections from sequences, and what two of them have in common."""

from collections.abc import Sequence
from typing import TypeVar

Selected = TypeVar("Selected")


def evenly_spread(items: Sequence[Selected], limit: int | None) -> list[Selected]:
    """At most ``limit`` of the items, evenly spread over the sequence, so that no author or topic is left out."""
    if limit is None or len(items) <= limit:
        return list(items)
    return [items[i * len(items) // limit] for i in range(limit)]


def common_prefix_length(one: Sequence[object], other: Sequence[object]) -> int:
    """How many items two sequences begin with alike."""
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return min(len(one), len(other))
