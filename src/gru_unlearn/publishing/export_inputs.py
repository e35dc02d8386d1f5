"""What an export begins with: the run, its model, and what is known of that model, all checked before any work."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from gru_unlearn.common.notices import tell
from gru_unlearn.common.options import flag_of
from gru_unlearn.data import TextFormat
from gru_unlearn.errors import UserError
from gru_unlearn.models.locating import base_of, holds_adapters, locate
from gru_unlearn.models.weights import hash_weights
from gru_unlearn.publishing.export_request import ExportRequest
from gru_unlearn.publishing.hub import check_push, check_repository
from gru_unlearn.publishing.model_files import ModelFiles
from gru_unlearn.publishing.patch_inputs import as_patch, patch_inputs
from gru_unlearn.publishing.patch_job import PatchInputs
from gru_unlearn.publishing.privacy import hub_name, public_name
from gru_unlearn.publishing.public_manner import public_manner
from gru_unlearn.reporting.measured import verdict_of_folder
from gru_unlearn.results.attack_summary import AttackSummary
from gru_unlearn.results.evaluation_summary import EvaluationSummary
from gru_unlearn.results.file_model import IncompleteFile
from gru_unlearn.results.row_examples import Moment
from gru_unlearn.results.run_folder import RunFolder
from gru_unlearn.results.run_summary import RunSummary, TruSummary
from gru_unlearn.results.summaries import read_summary
from gru_unlearn.results.verdict import Verdict

UnlearningSummary = RunSummary | TruSummary
Evaluations = dict[Moment, EvaluationSummary]
"""Of one suite: the exported model (``after``), and whichever of its target and retain model there are."""


@dataclass(frozen=True)
class PreparedExport:
    """A request whose every input was found and checked; nothing has been written yet."""

    request: ExportRequest
    run: UnlearningSummary
    weights: str
    """SHA-256 of the run's model, see :func:`hash_weights`"""
    model: ModelFiles
    evaluations: dict[str, Evaluations]
    """by suite"""
    attack: AttackSummary | None
    verdict: Verdict
    patch: PatchInputs | None = None
    """where a patch is asked for"""

    @property
    def name(self) -> str:
        """What the card calls the model."""
        return (self.request.push or self.request.out.resolve().name).rpartition("/")[2]


def prepare_export(request: ExportRequest) -> PreparedExport:
    """Check everything that can be checked without loading a model, cheapest first.

    Raises:
        UserError: the first thing that cannot work.
    """
    _check_options(request)
    run = read_run(request.run)
    folder = RunFolder(request.run)
    if not request.anyway:
        _refuse_what_is_not_forgotten(folder, run)
    weights = hash_weights(locate(str(folder.model), "RUN", trust_remote_code=request.trust_remote_code))
    model = _model_files(request, folder.model, run)
    patch = patch_inputs(request, run, model) if request.patch else None
    if patch is not None:
        model = as_patch(model, patch)
    evaluations = read_evaluations(request.evaluations, run, weights)
    attack = _attack_on_model(folder, weights)
    if request.push:
        check_push(request.push)
    verdict = verdict_of_folder(folder, run, attack)
    return PreparedExport(request, run, weights, model, evaluations, attack, verdict, patch)


def _check_options(request: ExportRequest) -> None:
    if request.base_model:
        check_repository(request.base_model, "--base-model")
    request.check()


def _refuse_what_is_not_forgotten(folder: RunFolder, run: UnlearningSummary) -> None:
    """Nobody should publish by mistake, as forgotten, what the model still knows. Attacks cannot make it better."""
    verdict = verdict_of_folder(folder, run, None)
    if verdict.forgotten == "no":
        raise UserError(
            f"{folder.path} is not exported: {verdict.sentence} (--anyway exports it, and its card says so)"
        )


# --- the run and its model -------------------------------------------------------------------------------------------


def read_run(folder: Path) -> UnlearningSummary:
    """The summary of a finished run.

    Raises:
        UserError: there is none, or it is not that of a run.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; a run is a folder written by gru unlearn")
    run = RunFolder(folder)
    if not run.is_finished:
        if run.identity_file.is_file():
            raise UserError(f"{folder}: the run is not finished")
        raise UserError(f"{folder}: not a run, it has no summary.json")
    other = f"{folder}: its summary.json is not that of gru unlearn or gru tru"
    try:
        summary = read_summary(run.summary_file)
    except IncompleteFile as error:
        raise UserError(f"{other}: {error}") from None
    if not isinstance(summary, RunSummary | TruSummary):
        raise UserError(other)
    return summary


def _model_files(request: ExportRequest, folder: Path, run: UnlearningSummary) -> ModelFiles:
    base = None
    if holds_adapters(folder):
        base = _base_of_adapters(folder, run, trust_remote_code=request.trust_remote_code)
    if base is None and request.merge:
        raise UserError(f"--merge: {folder} holds a whole model, there are no adapters to merge")
    if base is not None and not request.merge and (request.dtype or request.max_shard_size):
        raise UserError("--dtype and --max-shard-size are for whole models: the run trained adapters, add --merge")
    name = hub_name(request.base_model or public_name(run.model.source, "model"))
    as_adapters = request.patch or (base is not None and not request.merge)
    manner = public_manner(folder, run, base_name=name, adapters=as_adapters)
    return ModelFiles(
        folder=folder,
        base=base,
        base_name=name,
        base_revision=manner.base.revision if manner.base is not None else None,
        merge=request.merge,
        dtype=request.dtype,
        max_shard_size=request.max_shard_size,
        trust_remote_code=request.trust_remote_code,
        manner=manner,
    )


def _base_of_adapters(folder: Path, run: UnlearningSummary, *, trust_remote_code: bool) -> Path:
    """The folder of the model that the adapters were trained on, found again and the same as then."""
    base = base_of(folder, "the run's adapters", trust_remote_code=trust_remote_code)
    if hash_weights(base) != run.model.sha256:
        raise UserError(
            f"{run.model.source}: not the model that the run's adapters were trained on, its SHA-256 differs"
        )
    return base


# --- what is known of it ---------------------------------------------------------------------------------------------


def read_evaluations(folders: Sequence[Path], run: UnlearningSummary, weights: str) -> dict[str, Evaluations]:
    """Evaluations by suite, and by which of the run's models they are of: told by the weights' hash.

    Raises:
        UserError: no evaluation, one of another model, or two of a suite that do not go together.
    """
    moments: dict[str | None, Moment] = {run.model.sha256: "before", weights: "after"}
    if run.retain_model is not None:
        moments.setdefault(run.retain_model.sha256, "retain_model")
    found: dict[str, Evaluations] = {}
    for folder in folders:
        evaluation = read_summary(RunFolder(folder).summary_file)
        if not isinstance(evaluation, EvaluationSummary):
            raise UserError(f"--evaluation {folder}: not a finished evaluation by gru evaluate")
        moment = moments.get(evaluation.model.sha256)
        if moment is None:
            raise UserError(f"--evaluation {folder}: of another model than the run's, its target or its retain model")
        suite = found.setdefault(evaluation.suite, {})
        if moment in suite or any(other.data != evaluation.data for other in suite.values()):
            raise UserError(f"--evaluation {folder}: a second one of the same model, or on other rows than the first")
        for other in suite.values():
            _tell_if_asked_otherwise(folder, evaluation, other)
        suite[moment] = evaluation
    for name, suite in found.items():
        if "after" not in suite:
            raise UserError(f"--evaluation: none of suite {name} is of the run's model itself")
    return found


def _tell_if_asked_otherwise(folder: Path, evaluation: EvaluationSummary, other: EvaluationSummary) -> None:
    """Numbers side by side should be of the same prompts. What an earlier version asked with is not known."""
    if not (evaluation.asked and other.asked):
        return
    for name in (one.name for one in fields(TextFormat)):
        one, another = evaluation.asked.get(name), other.asked.get(name)
        if one != another:
            tell(
                f"--evaluation {folder}: asked with {flag_of(name)} {one!r}, another of its suite with {another!r}: "
                "where that changes the prompts, their numbers are not comparable"
            )


def _attack_on_model(folder: RunFolder, weights: str) -> AttackSummary | None:
    """The attack in the run's folder, which must be on the very model that is exported."""
    attack = AttackSummary.read(folder.attack.summary_file)
    if attack is not None and attack.model.sha256 != weights:
        raise UserError(f"{folder.attack.path}: of another model than the run's: attack again, or delete it")
    return attack
