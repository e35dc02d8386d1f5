"""What ``gru export`` leaves: all that a model card says. It names no file and no folder of this machine."""

from typing import Literal

from pydantic import JsonValue

from gru_unlearn.results.attack_summary import Attempt
from gru_unlearn.results.file_model import FileModel, JobSummary, JsonObject, Number
from gru_unlearn.results.mark import Mark, label_of_mark
from gru_unlearn.results.patch_record import PatchRecord
from gru_unlearn.results.verdict import Verdict


class PublicModel(FileModel):
    """A model, known by the hash of its weights and configuration."""

    name: str | None
    """under which anybody finds it; None where nobody does"""
    sha256: str


class PublicRows(FileModel):
    """A set of rows, known by the hash of their contents."""

    rows: int
    sha256: str
    name: str | None


class ExportedMethod(FileModel):
    """How the model was made; besides, the settings that matter most, as they were in force."""

    command: Literal["unlearn", "tru"]
    objective: str | None = None
    rectification: str | None = None
    robust: str | None = None
    steps: int | None = None
    """to the exported model; the learning rate is that of its last step"""
    groups: int | None = None
    alpha: float | None = None
    granularity: str | None = None


class ExportedMetric(FileModel):
    """A metric at both ends and in the retain model; of an evaluation, with the 95 % interval of its value after."""

    metric: str
    before: Number | None
    after: Number
    """of the exported model"""
    retain_model: Number | None
    mark: Number | None = None
    """what stands in for the retain model's, where there is none"""
    low: float | None = None
    high: float | None = None


class ExportedAttack(Attempt):
    """What one attack brought back, by one measure."""

    measure: str
    unlearned: float
    target: float
    retain_model: float | None
    zero: float | None = None
    """the retain model's, or where there is none the base's"""
    recovered: float | None
    low: float | None
    high: float | None


class Checks(FileModel):
    """How the files, loaded again, score beside the run's model."""

    tokens: int
    conversion: str | None
    """what was done to the weights, in words; None: nothing"""
    mean_change: float
    """of the tokens' log-probabilities, by the conversion"""
    largest_change: float
    tolerance: float
    """the most that is accepted of the mean"""


class ExportSummary(JobSummary):
    """One published model."""

    command: Literal["export"] = "export"
    name: str
    repository: str | None
    kind: Literal["adapters", "model"]
    run_sha256: str
    base: PublicModel
    retain_model: PublicModel | None
    base_model: PublicModel | None = None
    """the model before fine-tuning, where it gave the mark"""
    mark: Mark | None = None
    data: dict[str, PublicRows]
    method: ExportedMethod
    metrics: list[ExportedMetric]
    evaluations: dict[str, list[ExportedMetric]]
    attacks: list[ExportedAttack]
    verdict: Verdict | None = None
    reproduce: str
    left_out: list[str]
    """settings that are not shown"""
    checks: Checks
    patch: PatchRecord | None = None
    license: JsonObject
    """as the hub's metadata call it; empty where none is stated"""
    language: JsonValue
    files: dict[str, str]
    """name → SHA-256"""
    versions: dict[str, str]
    """of the run"""
    export_versions: dict[str, str]
    seconds: float

    @property
    def mark_label(self) -> str:
        """Of the column beside before and after."""
        return label_of_mark(self.mark)

    @property
    def all_public(self) -> bool:
        """Whether anybody finds the models and rows of the run."""
        sources = (*self.data.values(), self.base, self.retain_model, self.base_model)
        return all(source is None or source.name for source in sources)
