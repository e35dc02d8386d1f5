"""What ``gru attack`` leaves: how much of what was forgotten came back, and by which way."""

from math import inf
from typing import Literal

from gru_unlearn.results.file_model import FileModel, JobSummary, JsonObject
from gru_unlearn.results.provenance import ModelSource, RowsSource
from gru_unlearn.results.verdict import Verdict

ZeroLine = Literal["retain_model", "base"]
"""The model of which an attack's outcome is what would come out anyway: one that never saw the forget rows, or, where
there is none, the one before fine-tuning, which does not know what was learnt beside them either."""


def _first_there(retain_model: object, base: object) -> ZeroLine | None:
    if retain_model is not None:
        return "retain_model"
    return None if base is None else "base"


class Attempt(FileModel):
    """Which attack, in which form."""

    attack: str
    variant: str
    form: str = ""
    """where a variant is tried in several, of which the strongest counts: at a learning rate, with adapters"""

    @property
    def kind(self) -> str:
        """The attack with its variant, as one name: all its forms."""
        return ": ".join(filter(None, (self.attack, self.variant)))

    @property
    def name(self) -> str:
        """The same with its form."""
        return f"{self.kind} ({self.form})" if self.form else self.kind


class AttackResult(Attempt):
    """One attack by one measure; the share brought back is None where ``note`` says why."""

    measure: str
    step: int | None = None
    rows: int
    unlearned: float
    target: float
    retain_model: float | None
    base: float | None = None
    recovered: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""

    @property
    def zero_line(self) -> ZeroLine | None:
        """Beside which model the share is measured; None: there is none."""
        return _first_there(self.retain_model, self.base)

    @property
    def zero(self) -> float | None:
        """Its value."""
        return self.base if self.retain_model is None else self.retain_model

    @property
    def strength(self) -> float:
        """The share brought back, to compare by: one that could not be measured is below all."""
        return -inf if self.recovered is None else self.recovered


class RecoveryCurve(Attempt):
    """Mean probability of the answers along an attack that takes steps, for one model."""

    measure: str
    model: str
    steps: list[int]
    values: list[float | None]


class LeftOut(Attempt):
    """What was not measured, and why."""

    why: str


class AttackedRows(Attempt):
    """Single values of one attack by one measure."""

    measure: str
    numbers: list[int]
    """of the forget rows, counted from 1 in the whole set"""
    values: dict[str, dict[str, list[float]]]
    """model → set → one value per row"""
    step: int | None = None
    """of an attack that takes steps, or looks into layers, the one of ``values``"""
    said: dict[str, list[str]] = {}


class Relearnt(Attempt):
    """How the rows come back that a copy is trained on: what winning them back costs."""

    numbers: list[int]
    steps: list[int]
    paths: dict[str, list[list[float]]]
    """model → after each of the steps, the rows' probabilities"""


class Estimate(FileModel):
    """A number to compare by, with its 95 % interval; both None where ``note`` says why."""

    value: float | None = None
    interval: tuple[float, float] | None = None
    bound: Literal["", "at least", "at most"] = ""
    """that is all that can be told of it, because the attack ended before"""
    by: str = ""
    """the attack that gives it"""
    note: str = ""


class Headline(FileModel):
    """What all attacks come to, of the unlearned model."""

    recovered_share: Estimate
    """the largest share brought back, of what the target knew beyond the model of the zero line"""
    relearning_cost: Estimate
    """steps to half of that on the rows trained on, of that model's: 1 is as dear as learning anew"""


class AttackPart(FileModel):
    """The outcome of one attack, kept as soon as it is done."""

    rows: list[AttackedRows]
    curves: list[RecoveryCurve]
    left_out: list[LeftOut]
    relearnt: list[Relearnt] = []
    reused: list[str] = []
    """models of which it was known before what comes out of them"""
    seconds: float = 0.0


class AttackSummary(JobSummary):
    """All attacks on one model."""

    command: Literal["attack"] = "attack"
    headline: Headline | None = None
    rows: int
    attacks: list[AttackResult]
    """the largest share brought back first"""
    before: list[AttackResult]
    """without any attack"""
    curves: list[RecoveryCurve] = []
    left_out: list[LeftOut] = []
    seconds: float
    seconds_by_attack: dict[str, float] = {}
    reused: dict[str, list[str]] = {}
    """attack → models of which an earlier attack told what comes out of them"""
    seed: int
    run: str | None = None
    prefixes: str | None = None
    settings: JsonObject
    tried: JsonObject = {}
    """how much of each attack, where there is no flag for it, too"""
    data: dict[str, RowsSource] = {}
    model: ModelSource
    target: ModelSource | None = None
    retain_model: ModelSource | None = None
    base: ModelSource | None = None
    versions: dict[str, str]
    verdict: Verdict | None = None

    @property
    def zero_line(self) -> ZeroLine | None:
        """Beside which model shares are measured; None: there is none."""
        return _first_there(self.retain_model, self.base)

    @property
    def relearning_cost(self) -> Estimate | None:
        """What a verdict asks of it; None in files of earlier versions."""
        return None if self.headline is None else self.headline.relearning_cost
