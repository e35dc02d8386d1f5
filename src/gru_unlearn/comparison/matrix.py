"""What is compared: objectives × rectifications × learning rates × seeds, each cell an ordinary run."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from gru_unlearn.benchmark.evaluation_request import EvaluationRequest
from gru_unlearn.comparison.comparison_request import ComparisonRequest, parse_learning_rates, parse_seeds, split
from gru_unlearn.comparison.comparison_suite import suite_request
from gru_unlearn.comparison.demo_job import builtin_run
from gru_unlearn.errors import UserError
from gru_unlearn.results.comparison_summary import OF_A_CELL
from gru_unlearn.results.file_model import JsonObject
from gru_unlearn.results.run_folder import RunFolder
from gru_unlearn.runs.recipe_file import read_recipe
from gru_unlearn.training import UnlearningConfig

SHARED: JsonObject = {
    "eval_strategy": "steps",
    "save_strategy": "no",
    "stop_when_forgotten": True,
    "report_examples": 0,
}
"""Settings of every run unless the recipe or a flag says otherwise."""

OF_A_METHOD = (
    "forget_candidates", "new_gradient_weight", "retain_batch_size", "retain_every", "retain_loss", "retain_weight",
    "retain_placement", "max_grad_norm", "robust",
)  # fmt: skip
"""Settings in which methods may differ. All others are the same for all runs: a comparison would say nothing else."""


MARKS = ("retain_model", "base_model", "control_rows")
NEEDED = ("model", "forget", "retain", "held_out", *MARKS)
"""Where neither a recipe nor one of these is given, the built-in benchmark stands for all of them."""

BUILTIN_RATES = "1e-4,3e-4"

PLURAL = {"objective": "--objectives", "rectification": "--rectifications", "seed": "--seeds"}

ROBUST = "robust"
"""The setting that ``--robustness`` crosses with the rectifications."""


MethodName = tuple[str, str]
"""Objective and rectification."""


@dataclass(frozen=True)
class Cell:
    """One run of the matrix; its folder's name is its name."""

    objective: str
    rectification: str
    """with settings of its own, if any: gru@retain_batch_size=32"""
    learning_rate: float
    seed: int
    folder: Path
    settings: JsonObject

    @property
    def name(self) -> str:
        """By which it is known in logs and tables."""
        return self.folder.name


@dataclass(frozen=True)
class Terms:
    """On what terms methods are compared: see :mod:`equal_terms`."""

    what: str = "rows"
    """or passes, or time"""
    budget: float | None = None
    """cost within which a method has to get to f*; None: found when all runs are done"""
    against: str = "none"
    """the method that the others are compared with"""
    retain_rows: Mapping[MethodName, int] = field(default_factory=dict)
    """method → retain rows for each pass over forget rows; 0 where it looks at none"""
    candidates: Mapping[MethodName, int] = field(default_factory=dict)
    """method → forget rows that it reads for each one of a step"""
    raised: frozenset[MethodName] = frozenset()
    """methods that get more of them than they would by themselves"""


@dataclass(frozen=True)
class Matrix:
    """What is compared: the settings that all runs share, and what differs between them."""

    settings: JsonObject
    objectives: Sequence[str]
    rectifications: Sequence[str]
    learning_rates: Mapping[str, Sequence[float]]
    """objective → its grid"""
    seeds: Sequence[int]
    output: Path
    suite: EvaluationRequest | None = None
    terms: Terms = Terms()

    @property
    def cells(self) -> list[Cell]:
        """All runs, seed after seed, so that a comparison cut short has whole seeds."""
        found = []
        for seed, objective, rectification in product(self.seeds, self.objectives, self.rectifications):
            for rate in self.learning_rates[objective]:
                found.append(self._cell(objective, rectification, rate, seed))
        return found

    @property
    def reference(self) -> RunFolder:
        """Where the target and the retain model are measured."""
        return RunFolder(self.output / "reference")

    def _cell(self, objective: str, rectification: str, rate: float, seed: int) -> Cell:
        run_as = rectification
        if (objective, rectification) in self.terms.raised:
            run_as = with_retain_rows(rectification, self.terms.retain_rows[objective, rectification])
        safe = re.sub(r"[^A-Za-z0-9_.+-]+", "+", run_as)
        folder = self.output / "runs" / f"{objective}-{safe}-lr{rate:g}-seed{seed}"
        own: JsonObject = {"objective": objective, "learning_rate": rate, "seed": seed, "output_dir": str(folder)}
        settings: JsonObject = {**SHARED, **self.settings, **own, **parse_method(run_as)}
        return Cell(objective, rectification, rate, seed, folder, settings)


def with_retain_rows(rectification: str, rows: int) -> str:
    """A method that gets so many retain rows."""
    return f"{rectification}@retain_batch_size={rows}"


def parse_method(text: str) -> dict[str, str]:
    """``gru/element@retain_batch_size=32`` → ``{"rectification": "gru/element", "retain_batch_size": "32"}``.

    Raises:
        UserError: a setting without a value, given twice, or in which methods may not differ.
    """
    rectification, *parts = text.split("@")
    settings = {"rectification": rectification}
    for part in parts:
        name, _, value = part.partition("=")
        if not (name and value):
            raise UserError(f"method {text!r}: after @ comes SETTING=VALUE, as in gru@retain_batch_size=32")
        if name not in OF_A_METHOD:
            raise UserError(f"method {text!r}: {name!r} is the same for all; own are {', '.join(OF_A_METHOD)}")
        if name in settings:
            raise UserError(f"method {text!r} sets {name} twice")
        settings[name] = value
    return settings


def _methods(request: ComparisonRequest, settings: JsonObject) -> list[str]:
    """Rectifications with settings of their own: each with each robustness, in the order of the rectifications.

    Raises:
        UserError: robustness is given in two places.
    """
    rectifications = split(request.rectifications, "--rectifications")
    if request.robustness is None:
        return list(rectifications)
    if ROBUST in settings or any(f"@{ROBUST}=" in name for name in rectifications):
        raise UserError("--robustness names what each run's setting robust is: leave that setting away")
    pairs = product(rectifications, split(request.robustness, "--robustness"))
    return [_made_robust(rectification, robust) for rectification, robust in pairs]


def _made_robust(rectification: str, robust: str) -> str:
    if robust == "none":
        return rectification
    return f"{rectification}@{ROBUST}={robust}"


def builtin_settings() -> JsonObject:
    """What a comparison shares by default: data, models and budget of ``gru demo``."""
    run = builtin_run("npo", "none", Path(), 0)
    return {name: value for name, value in run.items() if name not in OF_A_CELL}


def check_needed(settings: JsonObject) -> None:
    """Whether there is what a comparison cannot be without, and a run can.

    Raises:
        UserError: something lacks.
    """
    if not any(settings.get(name) for name in MARKS):
        raise UserError(
            "gru compare needs --retain-model: its forget probability is the mark (or --base-model, or --control-rows)"
        )
    if not settings.get("retain"):
        raise UserError("gru compare needs --retain: the rows that must stay")


def choose_matrix(request: ComparisonRequest, recipe: str | None, flags: Mapping[str, str]) -> Matrix:
    """What is compared: settings that all runs share, from recipe and flags, and what differs between them.

    Raises:
        UserError: the first thing that cannot be compared.
    """
    for name, plural in PLURAL.items():
        if name in flags:
            raise UserError(f"--{name} is for one run: gru compare takes {plural}")
    settings, default_rates = {}, str(UnlearningConfig.learning_rate)
    if recipe is not None:
        settings = read_recipe(recipe)
    elif flags.keys().isdisjoint(NEEDED):
        settings, default_rates = builtin_settings(), BUILTIN_RATES
    settings = {**settings, **flags}
    check_needed(settings)
    objectives = request.objectives or str(settings.get("objective", UnlearningConfig.objective))
    compared = split(objectives, "--objectives")
    rates = request.learning_rates or str(settings.get("learning_rate", default_rates))
    return Matrix(
        settings=settings,
        objectives=compared,
        rectifications=_methods(request, settings),
        learning_rates=parse_learning_rates(rates, compared),
        seeds=parse_seeds(request.seeds),
        output=request.output_dir,
        suite=suite_request(settings, request.suite, request.suite_data, request.forget_split),
    )
