"""What a patch is asked for, checked before any work: its flags, its original, and the rows that it is measured on."""

from dataclasses import replace

from gru_unlearn.errors import UserError
from gru_unlearn.models.loading import empty_model
from gru_unlearn.models.locating import base_of, holds_adapters, locate
from gru_unlearn.models.model_settings import ModelSettings
from gru_unlearn.models.subject import Subject
from gru_unlearn.models.weights import hash_weights
from gru_unlearn.publishing.export_request import ExportRequest
from gru_unlearn.publishing.model_files import ModelFiles
from gru_unlearn.publishing.patch_job import PatchInputs
from gru_unlearn.publishing.patch_parts import linear_layers
from gru_unlearn.publishing.patch_rows import rows_of_run
from gru_unlearn.results.manner import AdapterBase
from gru_unlearn.results.run_summary import RunRecord


def patch_inputs(request: ExportRequest, run: RunRecord, model: ModelFiles) -> PatchInputs:
    """Find the original and the rows, the same as the run had them.

    Raises:
        UserError: they are not there any more, or are others; or flags ask of adapters what they are not.
    """
    if model.is_of_adapters and (request.patch_rank or request.patch_error or request.patch_parts != "auto"):
        raise UserError("--patch-rank, --patch-error and --patch-parts: the run trained adapters, which are its patch")
    if request.evaluations and not model.is_of_adapters:
        raise UserError(
            "--evaluation is of the run's model, and the patch of a whole model is only near it: leave it out, and ask "
            "the patch itself (gru evaluate --model PATCH)"
        )
    trusted = request.trust_remote_code
    _check_rank(request, model)
    place = str(run.model.place)
    original = locate(place, "--patch: the run's original", trust_remote_code=trusted)
    if hash_weights(original) != run.model.sha256:
        raise UserError(f"--patch: {run.model.source} is not the model that the run began with, its SHA-256 differs")
    base = original
    if holds_adapters(original):
        base = base_of(original, place, trust_remote_code=trusted)
    settings = replace(ModelSettings.among(run.settings), trust_remote_code=trusted)
    return PatchInputs(
        run=Subject("run", str(model.folder), model.folder, settings),
        original=Subject("original", place, original, settings),
        base=Subject("base", str(base), base, settings),
        rows=rows_of_run(run, request.run),
        rank=request.patch_rank,
        error=request.patch_error,
        parts=request.patch_parts,
    )


def _check_rank(request: ExportRequest, model: ModelFiles) -> None:
    """A rank beyond the smaller side of every matrix carries nothing more, and only makes files large.

    Raises:
        UserError: it is that large.
    """
    if request.patch_rank is None:
        return
    layers = linear_layers(empty_model(model.folder, request.trust_remote_code))
    largest = max((min(layer.weight.shape) for layer in layers.values()), default=request.patch_rank)
    if request.patch_rank > largest:
        raise UserError(
            f"--patch-rank {request.patch_rank}: no linear layer has a rank above {largest}: pass that or less"
        )


def as_patch(model: ModelFiles, inputs: PatchInputs) -> ModelFiles:
    """The files of a patch: adapters of its base, and of no other model."""
    assert model.manner is not None  # prepared with one
    manner = model.manner.model_copy(deep=True)
    sha256 = inputs.base.sha256
    if manner.base is None or manner.base.sha256 != sha256:  # the original is adapters: their base has no public name
        manner.base = AdapterBase(sha256=sha256)
    manner.base.bound = True
    name = model.base_name if inputs.base.folder == inputs.original.folder else None
    return replace(model, base=inputs.base.folder, base_name=name, manner=manner)
