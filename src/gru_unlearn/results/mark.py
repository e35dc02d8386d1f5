"""The mark: the mean probability of the forget answers at which enough is forgotten, and where it comes from."""

from typing import Literal

from gru_unlearn.results.file_model import FileModel

MarkKind = Literal["retain_model", "base_model", "control_rows", "own_floor"]
"""The surest first."""


class Mark(FileModel):
    """f*, and what gave it."""

    kind: MarkKind
    value: float
    scored_by: Literal["base_model", "model"] | None = None
    """of control rows: by which model"""

    @property
    def label(self) -> str:
        """Of its column in tables."""
        return self.kind.replace("_", " ")

    @property
    def from_the_model_itself(self) -> bool:
        """Whether the model that knows the rows gave it."""
        return self.kind == "own_floor" or self.scored_by == "model"


def label_of_mark(mark: Mark | None) -> str:
    """Of the column beside before and after; without a mark that of the surest one."""
    return "retain model" if mark is None else mark.label


def retain_mark(value: float | None) -> Mark | None:
    """The retain model's; None where there is none."""
    return None if value is None else Mark(kind="retain_model", value=value)
