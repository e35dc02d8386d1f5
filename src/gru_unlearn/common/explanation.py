"""What a number means, in the words that ``gru evaluate --explain`` prints."""

from typing import NamedTuple


class Explanation(NamedTuple):
    """A number, or a word of a table or a verdict."""

    key: str
    definition: str
    range: str
    better: str
    source: str
