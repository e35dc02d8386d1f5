"""Numbers about one model, by name."""

from gru_unlearn.results.file_model import FileModel, Number
from gru_unlearn.results.row_kinds import RowKind


class Numbers(FileModel):
    """Numbers of any names beside those of the fields."""

    __pydantic_extra__: dict[str, Number | None]

    def get(self, name: str) -> Number | None:
        """A number by its key; None where it was not measured."""
        return getattr(self, name, None)


class Metrics(Numbers):
    """Mean answer probabilities, and whatever else a suite measured."""

    forget_prob: float | None = None
    retain_prob: float | None = None
    held_out_prob: float | None = None

    def has(self, name: str) -> bool:
        """Whether a metric was measured, or tried to."""
        return name in self.model_fields_set

    def probability(self, kind: RowKind) -> float | None:
        """Mean answer probability of a kind of rows; None where it was not measured."""
        return getattr(self, kind.probability)


UNMEASURED = Metrics.model_validate({})
"""Where nothing was measured."""


PLACES = ("step", "rows", "seconds")
"""Keys that say where in the run an evaluation stands."""


class Point(Metrics):
    """One evaluation along a run."""

    step: int
    forget_prob: float
    rows: int | None = None
    """passes of single rows until then; None where a version did not count them"""
    seconds: float | None = None
    """of training steps until then, likewise"""

    def measured(self) -> dict[str, Number | None]:
        """Everything that was measured, without its place in the run."""
        return {name: value for name, value in self if name not in PLACES and name in self.model_fields_set}


class AlphaPoint(Metrics):
    """One multiple of a task vector that was tried."""

    alpha: float
    forget_prob: float
