"""What was measured of a model after unlearning, as far as a verdict asks for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from gru_unlearn.reporting.row_words import RowWords, words_for
from gru_unlearn.results.mark import Mark, retain_mark
from gru_unlearn.results.verdict import Said


class Sample(NamedTuple):
    """How many rows of a set stand for all of it."""

    rows: int
    of: int

    def __str__(self) -> str:
        return f"{self.rows} of {self.of}"


@dataclass(frozen=True, slots=True)
class Kept:
    """Mean answer probability of a set that must stay, and what the model says to its questions."""

    before: float | None
    after: float | None
    retain_model: float | None = None
    retain_model_rows: int | None = None
    """rows behind the retain model's value, where they are not all"""
    rmf: float | None = None
    said: Said | None = None
    said_before: Said | None = None
    made: bool = False
    """whether the rows are the model's own answers, which stand for what nobody named"""
    sample: Sample | None = None
    """what was looked at before and after, where that is not all"""

    @property
    def share(self) -> float | None:
        """What is left of what was there before; None where that was not measured, or nothing."""
        if not self.before or self.after is None:
            return None
        return self.after / self.before

    @property
    def is_broken(self) -> bool:
        """Whether most answers are none any more."""
        return mostly_broken(self.said, self.said_before)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Numbers of one model; None, or left out, where something was not measured.

    ``forget_*`` are mean answer probabilities of the forget rows, ``said*`` what was answered to those that were asked,
    and of texts how they were continued; ``kept`` has ``held-out`` and ``retain``.
    """

    forget_before: float | None = None
    forget_after: float | None = None
    forget_retain_model: float | None = None
    forget_quality: float | None = None
    rows: int | None = None
    """of the forget set"""
    said: Said | None = None
    said_before: Said | None = None
    said_by_retain_model: Said | None = None
    kept: Mapping[str, Kept] = field(default_factory=dict)
    other_mark: Mark | None = None
    """what stands in for the retain model's forget probability, where nobody measured that"""
    tried: bool = True
    """whether it is known that somebody tried to remove the rows; else the model may be any"""
    sample: Sample | None = None
    """of the forget rows, as of those that are kept"""

    @property
    def mark(self) -> Mark | None:
        """What the forget probability should come down to, and whose it is."""
        return retain_mark(self.forget_retain_model) or self.other_mark

    @property
    def words(self) -> RowWords:
        """What the forget rows are called."""
        return words_for(self.said or self.said_before)

    @property
    def recited(self) -> int | None:
        """Answers given word for word; None where none was asked for."""
        return None if self.said is None else self.said.word_for_word

    @property
    def recited_by_retain_model(self) -> int:
        """The same by a model that never saw the rows, out of as many; 0 where nobody asked it."""
        return _out_of_as_many(self.said_by_retain_model, self.said) or 0

    @property
    def too_many(self) -> int | None:
        """Answers given word for word beyond those of a model that never saw the rows."""
        if self.recited is None:
            return None
        return max(0, self.recited - self.recited_by_retain_model)

    @property
    def too_many_before(self) -> int | None:
        """The same of the model before; None where it was not asked."""
        known = _out_of_as_many(self.said_before, self.said)
        if known is None:
            return None
        return max(0, known - self.recited_by_retain_model)

    @property
    def is_broken(self) -> bool:
        """Whether most answers are none any more."""
        return mostly_broken(self.said, self.said_before)


def mostly_broken(said: Said | None, before: Said | None) -> bool:
    """Whether half of the answers or more are no answers, and were some before."""
    if said is None or not said.broken:
        return False
    already = _out_of_as_many(before, said, "broken") or 0
    return 2 * (said.broken - already) >= said.asked


def _out_of_as_many(found: Said | None, said: Said | None, what: str = "word_for_word") -> int | None:
    """A count of one model, out of as many questions as another was asked."""
    if found is None or said is None or not found.asked:
        return None
    count: int | None = getattr(found, what)
    return None if count is None else round(count * said.asked / found.asked)
