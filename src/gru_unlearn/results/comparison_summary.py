"""What ``gru compare`` and ``gru demo`` leave: methods side by side."""

from typing import Literal

from gru_unlearn.results.file_model import FileModel, JsonObject
from gru_unlearn.results.model_metrics import Metrics, Point
from gru_unlearn.results.run_summary import RunResults


class Interval(FileModel):
    """Mean over seeds with its 95 % interval; one seed has no interval."""

    mean: float
    low: float | None = None
    high: float | None = None
    n: int

    @property
    def margin(self) -> float | None:
        """Half of the interval's width."""
        if self.low is None or self.high is None:
            return None
        return (self.high - self.low) / 2


class PairedDifference(Interval):
    """The same of a difference to the plain run of the same seed."""

    wins: int
    """seeds in which it is above zero"""
    excludes_zero: bool


class CellResult(Metrics):
    """One run of the matrix; ``failed`` has a reason and no numbers."""

    name: str
    objective: str
    rectification: str
    learning_rate: float
    seed: int
    status: Literal["done", "failed"]
    reason: str | None = None
    evaluation_failed: str | None = None
    steps: int | None = None
    steps_to_target: int | None = None
    forget_target: float | None = None
    rmf: float | None = None
    rmf_held_out: float | None = None
    forget_quality: float | None = None
    metrics: dict[str, float | None] | None = None
    missing: dict[str, str] | None = None
    curves: dict[str, list[tuple[float, float]]] = {}
    """kept probability's key → [forget probability, share kept of it], see ``along_the_run``"""
    trajectory: list[Point] = []

    @property
    def method(self) -> tuple[str, str, float]:
        """What tells runs apart beside the seed."""
        return self.objective, self.rectification, self.learning_rate


class MethodResult(FileModel):
    """One method at one learning rate, over its seeds: each measure is an interval, None where no seed has it."""

    __pydantic_extra__: dict[str, Interval | None]

    objective: str
    rectification: str
    learning_rate: float
    chosen: bool = False
    """whether this is the method's own best learning rate"""
    runs: int
    failed: int
    reached: int
    """seeds that got to f*"""
    against_none: dict[str, PairedDifference | None] | None = None

    @property
    def method(self) -> tuple[str, str, float]:
        """What tells methods apart."""
        return self.objective, self.rectification, self.learning_rate

    def measure(self, name: str) -> Interval | None:
        """A measure over the seeds that have it."""
        return getattr(self, name, None)

    def mean(self, name: str) -> float | None:
        """The mean of a measure alone."""
        found = self.measure(name)
        return None if found is None else found.mean


class ComparisonSummary(FileModel):
    """Objectives × rectifications × learning rates × seeds."""

    command: Literal["compare"] = "compare"
    rule: str
    forget_target: float | None
    target: Metrics
    retain_model: Metrics
    aggregates: list[MethodResult]
    cells: list[CellResult]
    settings: JsonObject
    learning_rates: dict[str, list[float]]
    suite: JsonObject | None = None
    versions: dict[str, str]
    seconds: float | None = None

    @property
    def chosen(self) -> list[MethodResult]:
        """Each method at its own best learning rate."""
        return [row for row in self.aggregates if row.chosen]

    @property
    def objectives(self) -> list[str]:
        """In the order in which they were compared."""
        return list(dict.fromkeys(row.objective for row in self.aggregates))


class DemoRow(RunResults):
    """One run of the demonstration, with the metrics of the model that it saved."""

    name: str
    steps: int


class DemoSample(FileModel):
    """One question, and what every model answers."""

    question: str
    truth: str
    answers: dict[str, str]


class DemoSummary(FileModel):
    """The demonstration on the built-in benchmark."""

    command: Literal["demo"] = "demo"
    target: Metrics
    retain_model: Metrics
    results: list[DemoRow]
    sample: dict[str, DemoSample]
    seed: int
    seconds: float
    versions: dict[str, str]
