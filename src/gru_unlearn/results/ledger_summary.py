"""What ``gru requests`` leaves: how a ledger stands, every request in it, and what each one's model gave."""

from typing import Literal

from gru_unlearn.results.file_model import FileModel, JobSummary, JsonObject, Number
from gru_unlearn.results.provenance import ModelSource, RowsSource
from gru_unlearn.results.verdict import Said, Verdict


class LedgerSettings(FileModel):
    """What holds for the requests that start from now on."""

    unlearning: JsonObject
    """settings of ``gru unlearn``"""
    utility_floor: Number
    forget_ceiling: Number


class Judgement(FileModel):
    """What the model that a request left gives."""

    forget_prob: dict[str, float]
    """request → mean answer probability of its rows: of the request itself and of those done before"""
    held_out_kept: float | None = None
    """share that is left of what the first model gave on the same rows"""
    held_out_prob: float | None = None
    held_out_rows: int | None = None
    not_checked: dict[str, str]
    """former request → why its rows cannot be read any more"""
    retain_kept: float | None = None
    retain_prob: float | None = None
    retain_rows: int | None = None
    said: Said | None = None
    """what it answers to the request's own rows"""
    utility: float
    """the share kept, by the best witness that there is"""


class DeletionRequest(FileModel):
    """A request as it stands in a ledger."""

    number: int = 0
    id: str
    date: str
    reason: str = ""
    source: str
    rows: int
    data_sha256: str
    state: str = "pending"
    attempt: int = 1

    @property
    def version(self) -> str:
        """Name of the run's folder below ``versions``."""
        again = f"-attempt-{self.attempt}" if self.attempt > 1 else ""
        return f"{self.number:04d}-{self.id}{again}"


class Outcome(FileModel):
    """What events tell of a request's run, each its part."""

    forget_prob_before: float | None = None
    forget_prob_first_model: float | None = None
    """None: the first model was not there any more"""
    said_before: Said | None = None
    rows_used: dict[str, RowsSource] = {}
    weights_before: str | None = None
    weights_after: str | None = None
    model: str | None = None
    """its folder below that of the ledger"""
    metrics: Judgement | None = None
    why: str = ""


class RequestSummary(Outcome, DeletionRequest):
    """A request, without its reason, and what its newest run came to."""

    finished: str | None = None
    """when its model was judged; None where it was not"""
    verdict: Verdict | None = None
    """on that run's model, whether it was adopted or not"""


class LedgerSummary(JobSummary):
    """How a ledger stands."""

    command: Literal["requests"] = "requests"
    requests: list[RequestSummary]
    newest_model: ModelSource
    entries: int
    head: str
    """SHA-256 of the last entry"""
    settings: LedgerSettings
    settings_sha256: str
    versions: dict[str, str]
    verdict: Verdict | None = None
    """what those of the requests that are done come to together; None where none is"""
