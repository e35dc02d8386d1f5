"""What ``gru unlearn`` and ``gru tru`` leave: ``summary.json`` of a run."""

from typing import Literal

from gru_unlearn.results.file_model import FileModel, JobSummary, JsonObject
from gru_unlearn.results.mark import Mark, retain_mark
from gru_unlearn.results.model_metrics import AlphaPoint, Metrics, Numbers, Point
from gru_unlearn.results.provenance import ModelSource, RowsSource
from gru_unlearn.results.verdict import Verdict


class Stopped(FileModel):
    """Why a run came to its end, and where."""

    why: Literal["forgotten", "retention", "no_progress", "last_step"]
    step: int
    sentence: str


class RunResults(Metrics):
    """Numbers of the model that the run saved, and what the whole run comes to."""

    objective: str
    rectification: str
    robust: str | None = None
    """None: nothing made the steps robust"""
    conflict_rate: float | None = None
    """share of the logged steps in which the rectification changed something"""
    surviving_share: float | None = None
    """of the length of the logged steps, what rounding to the weights' type left at least"""
    forget_target: float | None = None
    """f*, the value of the mark"""
    mark: Mark | None = None
    """what says how much forgetting is enough; earlier versions knew the retain model's forget probability alone"""
    rmf: float | None = None
    """retention at matched forgetting on retain rows; None: f* was not reached"""
    rmf_held_out: float | None = None
    stopped: Stopped | None = None

    @property
    def known_mark(self) -> Mark | None:
        """The mark, of runs of earlier versions too."""
        return self.mark or retain_mark(self.forget_target)

    @property
    def method(self) -> str:
        """Objective, rectification and, where there is any, robustness."""
        parts = [self.objective, self.rectification]
        if self.robust is not None:
            parts.append(f"robust {self.robust}")
        return " · ".join(parts)


class BestModel(FileModel):
    """The evaluation whose model was kept instead of the last one."""

    step: int
    score: float
    metrics: Metrics


class LogRow(Numbers):
    """Means over the steps between two logs."""

    step: int
    forget_loss: float | None = None
    retain_loss: float | None = None
    conflict_rate: float | None = None
    cosine: float | None = None
    removed_share: float | None = None
    surviving_share: float | None = None


class RunRecord(JobSummary):
    """What every run tells of where its result came from."""

    seed: int
    seconds: float
    settings: JsonObject
    data: dict[str, RowsSource]
    model: ModelSource
    retain_model: ModelSource | None = None
    base_model: ModelSource | None = None
    """the model before fine-tuning, where it gave the mark"""
    output_model: str = "model"
    versions: dict[str, str]
    saved_sha256: str | None = None
    """of the saved model's weights and configuration"""
    verdict: Verdict | None = None
    """when the run ended; attacks come later"""


class RateMove(FileModel):
    """A change of the learning rate that a run made by itself."""

    step: int
    learning_rate: float
    """from this step on"""
    why: str


class OwnLearningRate(FileModel):
    """The learning rate of a run that found it by itself."""

    chosen: float
    """before the first step"""
    rate: float
    """at the end"""
    reach: float
    """at which the first step alone would halve the forget answers' probability, or cost the retain rows as much"""
    why: str
    moves: list[RateMove]

    def at(self, step: int) -> float:
        """The rate of this step."""
        rates = [self.chosen, *(move.learning_rate for move in self.moves if move.step <= step)]
        return rates[-1]


class RunSummary(RunRecord):
    """One unlearning run."""

    command: Literal["unlearn"] = "unlearn"
    results: RunResults
    steps: int
    trajectory: list[Point]
    removed_share_by_layer: dict[str, float] | None = None
    """of the last step: 1 − ‖rectified‖ / ‖plain‖"""
    log: list[LogRow]
    best: BestModel | None = None
    learning_rate: OwnLearningRate | None = None
    """None: it was given"""

    @property
    def start(self) -> Point | None:
        """What was measured before the first step, if it was."""
        return next((point for point in self.trajectory if point.step == 0), None)

    @property
    def saved_step(self) -> int:
        """The last step of the model that the run saved."""
        return self.best.step if self.best else self.steps

    @property
    def end(self) -> Metrics:
        """What was measured of the model that the run saved; beside a best one, 0.1.0 had results of the last step."""
        return self.best.metrics if self.best else self.results

    @property
    def known_mark(self) -> Mark | None:
        """The mark, of runs of earlier versions too."""
        return self.results.known_mark


class TruMethod(AlphaPoint):
    """The α that was chosen for one way of making the task vector, and what it left."""

    rmf: float | None = None
    rmf_held_out: float | None = None


class TruResults(FileModel):
    """TRU beside the plain negated task vector."""

    forget_target: float | None
    mark: Mark | None = None
    tru: TruMethod
    negated: TruMethod


class GroupConflict(FileModel):
    """How the task vector of one group of forget rows stands to that of the others."""

    rows: int
    cosine: float


class TruSummary(RunRecord):
    """One run of rectified task vectors."""

    command: Literal["tru"] = "tru"
    results: TruResults
    trajectory: dict[str, list[AlphaPoint]]
    """method → points, in ascending order of α"""
    groups: list[GroupConflict]
    options: JsonObject

    @property
    def known_mark(self) -> Mark | None:
        """The mark, of runs of earlier versions too; a number that was only asked for is nobody's."""
        had_retain_model = self.retain_model is not None and self.retain_model.source is not None
        if self.results.mark is None and had_retain_model:
            return retain_mark(self.results.forget_target)
        return self.results.mark
