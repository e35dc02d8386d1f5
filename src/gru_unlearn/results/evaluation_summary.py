"""What ``gru evaluate`` leaves: all metrics of one model, or metrics over a sequence of evaluations."""

from typing import Literal

from gru_unlearn.results.file_model import FileModel, JobSummary, JsonObject
from gru_unlearn.results.provenance import ModelSource, RowsSource
from gru_unlearn.results.verdict import Verdict


class EvaluatedModel(JobSummary):
    """What a sequence of evaluations needs of each."""

    command: Literal["evaluate"] = "evaluate"
    suite: str
    metrics: dict[str, float | None]
    model: ModelSource
    data: dict[str, RowsSource] = {}


class EvaluationSummary(EvaluatedModel):
    """One model on one suite."""

    missing: dict[str, str] = {}
    """metric without a value → why"""
    notes: dict[str, str] = {}
    intervals: dict[str, tuple[float, float]] = {}
    """metric → 95 % interval"""
    scores_reused: list[str] = []
    seconds: float
    settings: JsonObject
    asked: JsonObject = {}
    """how the model was asked, in the settings' names; empty where an earlier version did not say"""
    retain_model: ModelSource | None = None
    versions: dict[str, str]
    verdict: Verdict | None = None


class CurveValues(FileModel):
    """One metric over the evaluations."""

    values: list[float | None]
    slope: float | None
    """least-squares change per unit of size"""


class CurveRun(FileModel):
    """One of the evaluations."""

    source: str
    model: ModelSource
    data: dict[str, RowsSource] = {}


class CurveSummary(JobSummary):
    """Evaluations side by side."""

    command: Literal["curve"] = "curve"
    suite: str
    size: str
    """what grows from run to run"""
    sizes: list[int]
    curves: dict[str, CurveValues]
    runs: list[CurveRun]
    versions: dict[str, str]
