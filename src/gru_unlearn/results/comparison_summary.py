"""What ``gru compare`` and ``gru demo`` leave: methods side by side."""

from typing import Literal

from pydantic import JsonValue

from gru_unlearn.common.renamed import renamed_settings
from gru_unlearn.results.file_model import FileModel, JobSummary, JsonObject
from gru_unlearn.results.mark import Mark
from gru_unlearn.results.model_metrics import Metrics, Point
from gru_unlearn.results.row_kinds import FORGET
from gru_unlearn.results.run_summary import RunResults, Stopped
from gru_unlearn.results.verdict import Said, Verdict

OF_A_CELL = ("objective", "rectification", "learning_rate", "seed", "output_dir")
"""Settings that a comparison itself gives to each of its runs."""


class Interval(FileModel):
    """Mean over seeds with its 95 % interval; one seed has no interval."""

    mean: float
    low: float | None = None
    high: float | None = None
    n: int


class PairedDifference(Interval):
    """The same of a difference to the plain run of the same seed."""

    wins: int
    """seeds in which it is above zero"""
    excludes_zero: bool


class SuiteUsed(FileModel):
    """On what the saved models were evaluated."""

    request: JsonObject
    data: dict[str, str]
    """set → SHA-256 of its rows"""

    @property
    def decides(self) -> tuple[dict[str, JsonValue], dict[str, str]]:
        """What decides the results, whatever an earlier version called it: settings that have a value, and rows."""
        asked = renamed_settings(self.request)
        return {name: value for name, value in asked.items() if value is not None}, self.data


CELL_FILE = "cell.json"
EXACT = "forget_exact_answers"
"""The metric by which earlier versions knew how many answers come word for word."""


class CellRecord(FileModel):
    """What stands in :data:`CELL_FILE` of a run's folder: what the run cost, and the evaluation of its model."""

    cost: dict[str, float | None] = {}
    """seconds_per_step, peak_memory_mb and peak_gpu_memory_mb"""
    suite: SuiteUsed | None = None
    metrics: dict[str, float | None] | None = None
    missing: dict[str, str] | None = None
    said: dict[str, Said] = {}
    """set → what the model answered to its rows, as far as it was asked"""
    asked: bool = False
    """whether it was asked the run's own rows; earlier versions left that to suites"""

    @property
    def is_asked(self) -> bool:
        """Whether answers to the forget rows were counted, or cannot be."""
        return self.asked or FORGET.key in self.said or (self.metrics or {}).get(EXACT) is not None

    @property
    def shown(self) -> dict[str, float | None]:
        """The metrics that a comparison shows; None where one is missing."""
        metrics = self.metrics or {}
        return {name: metrics.get(name) for name in ("forget_quality", "model_utility", "extraction_strength")}


class ReferenceSummary(JobSummary):
    """``reference/summary.json``: the target and the retain model, measured as the runs are."""

    identity: JsonObject
    target: Metrics
    retain_model: Metrics
    """empty where there was none"""
    base_model: Metrics | None = None
    """the model before fine-tuning, where it stands in for the retain model"""
    target_said: dict[str, Said] = {}
    retain_model_said: dict[str, Said] = {}
    asked: bool = False
    """whether they were asked for answers wherever there are questions; earlier versions left that to suites"""


class AlongTheRun(Metrics):
    """What a trajectory says beside RMF.

    Among the other numbers is retention (``rmf_at_half``, ...) where the forget probability has fallen to a half and a
    quarter of the target's, None where that is below f*.
    """

    steps_to_target: int | None = None
    """the first evaluation at or below f*; None where there was none"""
    curves: dict[str, list[tuple[float, float]]] = {}
    """kept probability's key → [forget probability, kept probability] from the target's forget probability down to f*,
    as far as the run got"""


class Method(FileModel):
    """What tells runs apart beside the seed."""

    objective: str
    rectification: str
    learning_rate: float

    @property
    def method(self) -> tuple[str, str, float]:
        """The same as one key."""
        return self.objective, self.rectification, self.learning_rate


class CellResult(AlongTheRun, Method):
    """One run of the matrix; ``failed`` has a reason and no numbers."""

    name: str
    seed: int
    status: Literal["done", "failed"]
    reason: str | None = None
    evaluation_failed: str | None = None
    """why a run that ended could not be evaluated"""
    steps: int | None = None
    stopped: Stopped | None = None
    robust: str | None = None
    """what made its steps robust; None: nothing did"""
    forget_target: float | None = None
    mark: Mark | None = None
    rmf: float | None = None
    rmf_held_out: float | None = None
    cost_steps: float | None = None
    """what it took to f*, interpolated as RMF is"""
    cost_rows: float | None = None
    cost_seconds: float | None = None
    cost_estimated: bool = False
    """rows and seconds were worked out from the steps, because the run did not count them"""
    metrics: dict[str, float | None] | None = None
    missing: dict[str, str] | None = None
    said: dict[str, Said] = {}
    trajectory: list[Point] = []

    @property
    def done(self) -> bool:
        """Whether it came to its end."""
        return self.status == "done"


class MethodResult(Method):
    """One method at one learning rate, over its seeds: each measure is an interval, None where no seed has it."""

    __pydantic_extra__: dict[str, Interval | None]

    chosen: bool = False
    """whether this is the method's own best learning rate"""
    runs: int
    failed: int
    reached: int
    """seeds that got to f*"""
    within_budget: bool | None = None
    """whether its median seed gets to f* at no more than the equal cost; None where no cost is held equal"""
    against_none: dict[str, PairedDifference | None] = {}
    """of a chosen row: measure → the difference to the chosen plain runs"""
    against: dict[str, PairedDifference | None] | None = None
    """the same to those of another method, where one was named"""
    verdict: Verdict | None = None
    """of a chosen row"""

    @property
    def differences(self) -> dict[str, PairedDifference | None]:
        """To the method that the comparison was asked about."""
        return self.against_none if self.against is None else self.against

    def measure(self, name: str) -> Interval | None:
        """A measure over the seeds that have it."""
        return getattr(self, name, None)

    def mean(self, name: str) -> float | None:
        """The mean of a measure alone."""
        found = self.measure(name)
        return None if found is None else found.mean


EqualWhat = Literal["rows", "passes", "time"]


class Equal(FileModel):
    """What is the same for all methods of a comparison."""

    what: EqualWhat = "rows"
    """rows of a step, or the cost to f*: row passes, or time"""
    retain_rows: dict[str, int] = {}
    """objective · rectification → retain rows for each pass over forget rows; 0 where it looks at none"""
    forget_candidates: dict[str, int] = {}
    """objective · rectification → forget rows that are read for each one of a step"""
    budget: float | None = None
    """row passes or seconds that were asked for"""
    budgets: dict[str, float] = {}
    """objective → row passes or seconds within which a method has to get to f*"""


class Spread(FileModel):
    """Median over seeds with the least and the most."""

    median: float
    low: float
    high: float


class FrontierPoint(Method):
    """A method at one learning rate, with which every seed gets to f*."""

    cost: Spread
    kept: Spread
    own: bool
    """no other learning rate of the method keeps as much for less"""
    joint: bool
    """nor does any of another method of the objective"""


class MethodFrontier(FileModel):
    """What a method can do over all of its learning rates."""

    objective: str
    rectification: str
    area: float | None
    """the most that is kept within a time, averaged over the logarithm of the time; None where it has no point"""
    joint: bool
    """whether one of its points is on the joint frontier"""


class Frontier(FileModel):
    """What is kept at f* against what it takes to get there."""

    cost: Literal["seconds", "rows", "step"]
    kept: Literal["rmf_held_out", "rmf"]
    ranges: dict[str, tuple[float, float]]
    """objective → from the cheapest point to the dearest that is on a method's frontier: the range of the areas"""
    points: list[FrontierPoint]
    methods: list[MethodFrontier]

    def point_of(self, row: Method) -> FrontierPoint | None:
        """Of a method at a learning rate."""
        return next((point for point in self.points if point.method == row.method), None)

    def of(self, row: Method) -> MethodFrontier | None:
        """Of a method over all of its learning rates."""
        who = row.objective, row.rectification
        return next((one for one in self.methods if (one.objective, one.rectification) == who), None)


class ComparisonSummary(JobSummary):
    """Objectives × rectifications × learning rates × seeds."""

    command: Literal["compare"] = "compare"
    rule: str
    forget_target: float | None
    target: Metrics
    retain_model: Metrics
    base_model: Metrics | None = None
    mark: Mark | None = None
    """whose value f* is; earlier versions knew the retain model's alone"""
    equal: Equal | None = None
    against: str = "none"
    """the method that the others are compared with"""
    aggregates: list[MethodResult]
    frontier: Frontier | None = None
    cells: list[CellResult]
    settings: JsonObject
    learning_rates: dict[str, list[float]]
    suite: SuiteUsed | None = None
    versions: dict[str, str]
    seconds: float | None = None
    forget_rows: int | None = None
    kept_rows: dict[str, int] = {}
    """set that must stay → how many rows it has"""
    looked_at: int | None = None
    """rows of a set that the runs' evaluations look at, at most"""
    target_said: dict[str, Said] = {}
    retain_model_said: dict[str, Said] = {}
    verdict: Verdict | None = None
    """what those of the methods come to together"""
    kept_most: list[str] = []
    """who kept most at equal forgetting and by how much, in sentences; empty where nobody can be compared"""

    @property
    def yardstick(self) -> tuple[str, Metrics]:
        """The model that stands beside the target, by its name; unmeasured where f* is of rows alone."""
        if self.base_model is not None:
            return "base model", self.base_model
        return "retain model", self.retain_model

    @property
    def chosen(self) -> list[MethodResult]:
        """Each method at its own best learning rate."""
        return [row for row in self.aggregates if row.chosen]

    @property
    def objectives(self) -> list[str]:
        """In the order in which they were compared."""
        return list(dict.fromkeys(row.objective for row in self.aggregates))

    @property
    def rectifications(self) -> list[str]:
        """Likewise; one's place is its look in every picture."""
        return list(dict.fromkeys(row.rectification for row in self.aggregates))

    def cells_of(self, row: MethodResult) -> list[CellResult]:
        """The runs of a method that came to their end."""
        return [cell for cell in self.cells if cell.done and cell.method == row.method]


class DemoRow(RunResults):
    """One run of the demonstration, with the metrics of the model that it saved."""

    name: str
    steps: int
    said: dict[str, Said] = {}
    """set → what the model answered to its rows"""
    verdict: Verdict | None = None


class DemoSample(FileModel):
    """One question, and what every model answers."""

    question: str
    truth: str
    answers: dict[str, str]


class DemoSummary(JobSummary):
    """The demonstration on the built-in benchmark."""

    command: Literal["demo"] = "demo"
    target: Metrics
    retain_model: Metrics
    results: list[DemoRow]
    sample: dict[str, DemoSample]
    """set → its first row"""
    seed: int
    seconds: float
    versions: dict[str, str]
    forget_rows: int | None = None
    target_said: dict[str, Said] = {}
    retain_model_said: dict[str, Said] = {}
    verdict: Verdict | None = None
    """what those of the runs come to together"""
    kept_most: list[str] = []
    """who kept most at equal forgetting and by how much, in sentences; empty where nobody can be compared"""
