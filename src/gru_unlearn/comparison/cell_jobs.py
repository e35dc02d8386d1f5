"""What one process of a comparison has to do, as one line of JSON."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from gru_unlearn.benchmark.evaluate_job import EvaluationRequest
from gru_unlearn.results.comparison_summary import SuiteUsed
from gru_unlearn.results.file_model import JsonObject

CELL_FILE = "cell.json"
"""In a run's folder: what the run cost, and its evaluation."""


class _Job(BaseModel):
    model_config = ConfigDict(frozen=True, ser_json_inf_nan="constants")

    folder: Path
    settings: JsonObject
    suite: EvaluationRequest | None
    retain_scores: Path
    """the retain model's scores on the suite"""

    @property
    def name(self) -> str:
        """By which it is known in logs and tables."""
        return self.folder.name

    def line(self) -> bytes:
        """For the process that does it, which reads it with :func:`read_job`."""
        return self.model_dump_json().encode() + b"\n"


class ReferenceJob(_Job):
    """Measure the target and the retain model."""

    kind: Literal["reference"] = "reference"
    identity: JsonObject


class CellJob(_Job):
    """Do one run of the matrix, unless that is done, and evaluate its model."""

    kind: Literal["cell"] = "cell"
    train: bool
    suite_used: SuiteUsed | None


_ANY = TypeAdapter[ReferenceJob | CellJob](Annotated[ReferenceJob | CellJob, Field(discriminator="kind")])


def read_job(line: bytes) -> ReferenceJob | CellJob:
    """A job, from its line."""
    return _ANY.validate_json(line)
