"""Single rows, ``examples.json``: how probable each answer was to which model, and what that model said."""

from typing import Literal

from gru_unlearn.results.file_model import FileModel

Moment = Literal["before", "after", "retain_model"]


class Seen(FileModel):
    """What one model makes of a row."""

    probability: float | None = None
    """of the true answer; None where it was not finite"""
    says: str | None = None
    """its greedy answer or continuation, where it was asked"""


class ExampleRow(FileModel):
    """One row, counted from 0 in its set."""

    row: int
    question: str
    """of a plain text the beginning that models were given to go on from, where they were given one"""
    answer: str
    """or the whole plain text"""
    continuation: str | None = None
    """of a plain text what comes behind that beginning, as far as it is compared"""
    before: Seen | None = None
    after: Seen | None = None
    retain_model: Seen | None = None

    @property
    def due(self) -> str:
        """What is compared with what models say."""
        return self.answer if self.continuation is None else self.continuation

    def seen(self, moment: Moment) -> Seen | None:
        """By the model before the run, after it, or the retain model."""
        return getattr(self, moment)


class ExampleSet(FileModel):
    """Some rows of a set."""

    rows_in_set: int
    rows: list[ExampleRow]


class Examples(FileModel):
    """Rows of every set of a run."""

    generated: bool = False
    sets: dict[str, ExampleSet]
