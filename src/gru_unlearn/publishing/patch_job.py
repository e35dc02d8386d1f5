"""A run as a patch: what it changed of its original, small, and taken off again without a trace."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gru_unlearn.common.files import hash_file
from gru_unlearn.data import Record
from gru_unlearn.errors import UserError
from gru_unlearn.models.locating import ADAPTER_CONFIG, read_object
from gru_unlearn.models.subject import Subject
from gru_unlearn.publishing.model_files import ADAPTER_SHARE, ModelFiles, write_beside_weights, write_model_files
from gru_unlearn.publishing.patch_effect import PatchEffect, Whole
from gru_unlearn.publishing.patch_files import Factors, Rows, factors_of, rows_of, write_patch
from gru_unlearn.publishing.patch_parts import Patchable, look_through
from gru_unlearn.results.export_summary import Checks
from gru_unlearn.results.patch_record import PatchedRows, PatchRecord
from gru_unlearn.task_vectors.difference import rank_for

DEFAULT_ERROR = 0.3
"""‖ΔW − patch‖ / ‖ΔW‖ at most, where nothing is asked. What is lost of the effect is about its square."""


@dataclass(frozen=True)
class PatchInputs:
    """Everything that a patch is made of and measured on."""

    run: Subject
    original: Subject
    """the model that the run began with"""
    base: Subject
    """what the patch goes on: the original, or the base of its adapters, whose place the patch takes"""
    rows: Mapping[str, Sequence[Record]]
    rank: int | None
    error: float | None
    parts: str
    """auto, linear or all"""


def make_patch(
    inputs: PatchInputs, model: ModelFiles, out: Path, on_stage: Callable[[str], Any]
) -> tuple[Checks, PatchRecord]:
    """Write the patch of a run to an empty folder, and measure its files on the run's rows.

    Raises:
        UserError: it leaves more of the run's effect undone than it may.
        NonFiniteError: a weight or a score is not finite.
    """
    on_stage("Scoring the run's rows under its model and its original ...")
    effect = PatchEffect(inputs.run, inputs.original, inputs.base, inputs.rows)
    if model.is_of_adapters:
        write_model_files(model, out, on_stage)
        record = _of_adapters(inputs, out, effect)
    else:
        record = _of_whole_model(inputs, out, effect, on_stage)
        on_stage("Asking the original and the patch for their answers ...")
        effect.ask(out, record.rows)
        write_beside_weights(model, out)
    return _checked(record), record


def _of_adapters(inputs: PatchInputs, out: Path, effect: PatchEffect) -> PatchRecord:
    """The very adapters; merging them rounds."""
    rank: Any = read_object(out / ADAPTER_CONFIG, str(out)).get("r")
    return PatchRecord(exact=True, rank=rank, error=0.0, rows=effect.of(out), weight_files=_hashes(inputs.base.folder))


def _of_whole_model(inputs: PatchInputs, out: Path, effect: PatchEffect, on_stage: Callable[[str], Any]) -> PatchRecord:
    on_stage("Taking the difference, matrix by matrix ...")
    trusted = inputs.run.settings.trust_remote_code
    parts = look_through(inputs.base.folder, inputs.run.folder, trust_remote_code=trusted)
    if not parts.norms:
        raise UserError(f"--patch: {inputs.run.folder} holds its original unchanged: there is nothing to patch")
    if not parts.linear:
        raise UserError(
            "--patch: the run changed no linear layer, and LoRA carries nothing else: export the whole model"
        )
    factors = factors_of(parts, inputs.rank or rank_for(parts.matrices, inputs.error or DEFAULT_ERROR))
    for rows in _embeddings(inputs, parts, factors):
        write_patch(parts, factors, rows, out)
        on_stage("Loading the patch on its original, and scoring the run's rows ...")
        measured = effect.of(out)
        if Whole.of(measured).share <= ADAPTER_SHARE:
            return _recorded(inputs, parts, factors, rows, measured)
    raise _too_weak(parts, factors, rows, Whole.of(measured))


def _embeddings(inputs: PatchInputs, parts: Patchable, factors: Factors) -> Iterator[Rows | None]:
    """Without token embeddings first, because other programs load nothing else; then with them."""
    if inputs.parts != "all" or parts.embedding is None:
        yield None
    if inputs.parts != "linear" and parts.embedding is not None:
        yield rows_of(parts, factors.error)


def _recorded(
    inputs: PatchInputs, parts: Patchable, factors: Factors, rows: Rows | None, measured: dict[str, PatchedRows]
) -> PatchRecord:
    left_out = [*parts.rest]
    if rows is None and parts.embedding is not None:
        left_out.append(parts.embedding[0])
    record = PatchRecord(
        exact=False,
        rank=factors.rank,
        error=factors.error,
        left_out=parts.share(*left_out),
        rows=measured,
        weight_files=_hashes(inputs.base.folder),
    )
    if rows is not None:
        record.embedding_rows, record.embedding_error = len(rows.numbers), rows.error
    return record


def _too_weak(parts: Patchable, factors: Factors, rows: Rows | None, whole: Whole) -> UserError:
    ways = "pass a larger --patch-rank or a smaller --patch-error"
    if rows is None and parts.embedding is not None:
        ways = "its embeddings are left out: pass --patch-parts all"
    return UserError(
        f"--patch: at rank {factors.rank} it would leave {whole.share:.0%} of what the run does to the "
        f"log-probabilities of its rows undone, and {ADAPTER_SHARE:.0%} is accepted: {ways}, or export the whole model"
    )


def _checked(record: PatchRecord) -> Checks:
    whole = Whole.of(record.rows)
    words = "writing the change as a patch"
    if record.exact:
        words = "taking the adapters off the merged model"
    return Checks(
        tokens=whole.tokens,
        conversion=words,
        mean_change=whole.left,
        largest_change=whole.largest,
        tolerance=max(ADAPTER_SHARE * whole.effect, 0.0),
    )


def _hashes(folder: Path) -> list[str]:
    return [hash_file(file) for file in sorted(folder.glob("*.safetensors"))]
