"""A matrix, checked before its first run: what is there already, and which jobs are still to do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from gru_unlearn.common.versions import versions
from gru_unlearn.comparison.comparison_suite import SuiteJob, asked_alike, suite_job
from gru_unlearn.comparison.distinct_methods import check_distinct
from gru_unlearn.comparison.matrix import Cell, Matrix, check_needed
from gru_unlearn.errors import UserError
from gru_unlearn.results.comparison_summary import CELL_FILE, CellRecord, ReferenceSummary
from gru_unlearn.results.file_model import JsonObject, as_json
from gru_unlearn.results.run_folder import Claim, Identity, RunFolder
from gru_unlearn.runs.forewarnings import tell_of_blind_stops
from gru_unlearn.runs.recipe import Recipe, make_recipe
from gru_unlearn.runs.run_preparation import prepare

IDENTITY = {"command": "compare"}
"""Marks the folder of a comparison. Its runs are identified one by one, so that seeds and methods can be added."""


class _Job(BaseModel, ser_json_inf_nan="constants"):
    folder: Path
    settings: JsonObject
    suite: SuiteJob | None


class ReferenceJob(_Job):
    """Measure the target and the retain model, and ask them."""

    identity: JsonObject


class CellJob(_Job):
    """Do one run of the matrix, unless that is done, evaluate its model, and ask it."""

    train: bool
    like: JsonObject = {}
    """identity of a run that it computes like"""


Job = ReferenceJob | CellJob
JOB = TypeAdapter[Job](Job)
"""Reads a job from the line of JSON as which it goes to its process."""


@dataclass(frozen=True, slots=True)
class ComparisonPlan:
    """A matrix whose every run was checked; nothing has been written yet."""

    matrix: Matrix
    claim: Claim
    suite: SuiteJob | None
    reference: list[ReferenceJob]
    """empty where the target and the retain model are measured already"""
    cells: list[CellJob]
    """the runs that are still to do"""


def plan(matrix: Matrix, *, overwrite: bool = False) -> ComparisonPlan:
    """Check every run, and find out what is still to do. Writes nothing.

    Raises:
        UserError: the first thing that cannot work.
    """
    _check_complete(matrix)
    cells = matrix.cells
    recipes = [_measurable(make_recipe(cell.settings)) for cell in cells]
    check_distinct(matrix, cells, recipes)
    sample = _most_demanding(matrix, cells, recipes)
    prepared = prepare(make_recipe(sample), like=None if overwrite else _begun(matrix))
    tell_of_blind_stops(prepared)
    shared, suite = prepared.claim.identity, None
    if matrix.suite:
        request = asked_alike(matrix.suite, prepared.model.settings)
        suite = suite_job(request, matrix.reference.scores_file("retain_model"))
    claim = _claim(matrix, sample, overwrite)
    identity = {**shared, "settings": matrix.settings, "suite": suite and suite.used.to_json(), "versions": versions()}
    reference = ReferenceJob(folder=matrix.reference.path, settings=sample, suite=suite, identity=as_json(identity))
    jobs = []
    for cell, recipe in zip(cells, recipes, strict=True):
        own = {name: value for name, value in recipe.settings.items() if name != "output_dir"}
        trained = not overwrite and _is_trained(cell, {**shared, "settings": own})
        if not (trained and _is_evaluated(cell, suite) and _is_asked(cell)):
            like = as_json(shared)
            jobs.append(CellJob(folder=cell.folder, settings=cell.settings, suite=suite, train=not trained, like=like))
    known = None if overwrite else ReferenceSummary.read(matrix.reference.summary_file)
    measured = known is not None and known.asked and known.identity == reference.identity
    return ComparisonPlan(matrix, claim, suite, [] if measured else [reference], jobs)


def _check_complete(matrix: Matrix) -> None:
    check_needed(matrix.settings)
    names = [cell.name for cell in matrix.cells]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"two runs of the matrix would share the folder {twice[0]}: leave one of them out")


def _measurable(recipe: Recipe) -> Recipe:
    if recipe.config.eval_strategy == "no" or not recipe.config.eval_on_start:
        raise UserError("gru compare reads retention off evaluations along the run: leave eval_on_start on, and set "
                        "eval_strategy to steps or epoch")  # fmt: skip
    return recipe


def _most_demanding(matrix: Matrix, cells: Sequence[Cell], recipes: Sequence[Recipe]) -> JsonObject:
    """Settings of the run that needs most of the data and models, which are the same for all and looked at once.

    Its folder is one that does not exist: a run's own folder may hold it, finished.
    """
    needy = [cell for cell, recipe in zip(cells, recipes, strict=True) if recipe.config.needs_retain_set]
    return {**(needy or cells)[0].settings, "output_dir": str(matrix.output / "runs" / "none")}


def _begun(matrix: Matrix) -> Identity | None:
    """Identity of a run that the comparison has begun: all compute alike, also those that another machine adds."""
    for folder in sorted((matrix.output / "runs").glob("*")):
        started = RunFolder(folder).started_with()
        if started is not None and "settings" in started:
            return started
    return None


def _claim(matrix: Matrix, sample: JsonObject, overwrite: bool) -> Claim:
    """A comparison in the folder goes on, finished or not."""
    folder = RunFolder(matrix.output)
    if not overwrite and folder.started_with() == IDENTITY:
        return Claim(folder, IDENTITY, resume=True)
    names = ("model", "retain_model", "base_model", "forget", "retain", "held_out", "control_rows")
    inputs = [str(sample[name]) for name in names if sample.get(name)]
    return folder.claim(IDENTITY, overwrite=overwrite, inputs=inputs)


def _is_trained(cell: Cell, identity: Mapping[str, object]) -> bool:
    """Whether this very run came to its end in the cell's folder.

    Raises:
        UserError: the folder holds something else.
    """
    folder = RunFolder(cell.folder)
    if folder.is_finished and folder.started_with() == as_json(identity):
        return True
    folder.check(identity)
    return False


def _is_evaluated(cell: Cell, suite: SuiteJob | None) -> bool:
    if suite is None:
        return True
    record = CellRecord.read(cell.folder / CELL_FILE)
    return record is not None and record.suite is not None and record.suite.decides == suite.used.decides


def _is_asked(cell: Cell) -> bool:
    """Whether its answers were counted; a finished run whose model was taken away can no longer be asked."""
    record = CellRecord.read(cell.folder / CELL_FILE) or CellRecord()
    return record.is_asked or not RunFolder(cell.folder).model.is_dir()
