"""Single rows, ``examples.json``: how probable each answer was to which model, and what that model said."""

from typing import Literal

from gru_unlearn.results.file_model import FileModel

Moment = Literal["before", "after", "retain_model"]


class Seen(FileModel):
    """What one model makes of a row."""

    probability: float | None = None
    """of the true answer; None where it was not finite"""
    says: str | None = None
    """its greedy answer, where it was asked"""


class ExampleRow(FileModel):
    """One row, counted from 0 in its set."""

    row: int
    question: str
    answer: str
    before: Seen | None = None
    after: Seen | None = None
    retain_model: Seen | None = None

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
