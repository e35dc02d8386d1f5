"""What ``gru finetune`` leaves: ``summary.json`` of a fine-tuning."""

from typing import Literal

from gru_unlearn.results.file_model import Number
from gru_unlearn.results.model_metrics import Numbers
from gru_unlearn.results.run_summary import LogRow, RunRecord


class Known(Numbers):
    """Mean answer probabilities by set: how well a model knows its rows."""

    train_prob: float
    without_prob: float | None = None
    """of the rows that were left out"""
    held_out_prob: float | None = None


class KnownPoint(Known):
    """One evaluation along a fine-tuning."""

    step: int
    epoch: float

    def measured(self) -> dict[str, Number | None]:
        """Everything that was measured, without its place in the run."""
        return {name: value for name, value in self if name not in ("step", "epoch") and name in self.model_fields_set}


class TuningResults(Known):
    """Of the model that was saved."""

    train_word_for_word: float | None = None
    """share of the training rows that are evaluated whose answer it gives to the token, or which it so continues, where
    they are plain texts; left out where these are too short for that"""
    without_word_for_word: float | None = None
    held_out_word_for_word: float | None = None


class TuningSummary(RunRecord):
    """One fine-tuning."""

    command: Literal["finetune"] = "finetune"
    results: TuningResults
    steps: int
    epochs: float
    trainable_parameters: int
    left_out: int = 0
    """training rows that say the same as one of ``without``"""
    trajectory: list[KnownPoint]
    log: list[LogRow]

    @property
    def start(self) -> KnownPoint | None:
        """What was measured of the base, if it was."""
        return next((point for point in self.trajectory if point.step == 0), None)
