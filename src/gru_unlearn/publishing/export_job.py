"""Publish a run's model: weights, tokenizer and a model card, checked by loading them again, whole or absent."""

import time
from pathlib import Path

from rich.console import Console

from gru_unlearn.common.files import whole_folder
from gru_unlearn.errors import UserError
from gru_unlearn.models.known_bases import remember_base
from gru_unlearn.publishing.card import model_card
from gru_unlearn.publishing.export_inputs import PreparedExport, UnlearningSummary
from gru_unlearn.publishing.export_record import CARD_FILE, describe_export
from gru_unlearn.publishing.hub import push
from gru_unlearn.publishing.model_files import write_model_files
from gru_unlearn.publishing.patch_job import make_patch
from gru_unlearn.publishing.patch_verdict import let_patch_speak
from gru_unlearn.publishing.patch_words import patch_lines, whose_verdict
from gru_unlearn.publishing.privacy import public_name
from gru_unlearn.reporting.measured import run_evidence
from gru_unlearn.reporting.verdict_lines import verdict_lines
from gru_unlearn.results.export_summary import Checks, ExportSummary
from gru_unlearn.results.patch_record import PatchRecord
from gru_unlearn.results.row_examples import Examples
from gru_unlearn.results.run_folder import RunFolder

TEXT_FILES = (".json", ".md", ".jinja", ".txt")


def export(prepared: PreparedExport, console: Console) -> ExportSummary:
    """Write, load again, compare, and only then give the folder its name; upload it if asked.

    Returns:
        The summary, as it stands in ``summary.json`` of the folder: it names no path of this machine.

    Raises:
        NonFiniteError: a weight or a score is NaN or infinite.
        UserError: a conversion changes the model more than it may, or a file would tell a path of this machine.
        UploadError: the hub did not take it; the folder is whole.
    """
    request = prepared.request
    started = time.perf_counter()
    with whole_folder(request.out.resolve()) as folder:
        checks, patch = _write(prepared, folder, console)
        summary = describe_export(prepared, folder, checks, round(time.perf_counter() - started, 2))
        if patch is not None:
            _speak_of_patch(prepared, summary, patch)
        RunFolder(folder).finish(summary)
        (folder / CARD_FILE).write_text(model_card(summary), encoding="utf-8")
        _refuse_paths(prepared, folder)
    if prepared.model.base is not None and prepared.model.adapters:
        remember_base(summary.base.sha256, prepared.model.base)
    if request.push:
        console.print(f"Uploading to {request.push} ...")
        address = push(request.out, request.push, private=request.private)
        console.print(f"Published: {address}", soft_wrap=True)
    return summary


def _speak_of_patch(prepared: PreparedExport, summary: ExportSummary, patch: PatchRecord) -> None:
    """Of adapters that are the run's own all is said; any other patch has a verdict of its own.

    Raises:
        UserError: with the patch, the original still knows the rows, and nobody asked for it anyway.
    """
    summary.patch = patch
    if patch.exact:
        return
    folder = RunFolder(prepared.request.run)
    sizes = {name: rows.rows for name, rows in prepared.run.data.items()}
    let_patch_speak(summary, patch, run_evidence(prepared.run, Examples.read(folder.examples_file)), sizes)
    verdict = summary.verdict
    if verdict is not None and verdict.forgotten == "no" and not prepared.request.anyway:
        raise UserError(
            f"the patch is not exported: {verdict.sentence} Pass a larger --patch-rank, a smaller --patch-error or "
            "--patch-parts all (--anyway exports it, and its card says so)"
        )


def _write(prepared: PreparedExport, folder: Path, console: Console) -> tuple[Checks, PatchRecord | None]:
    if prepared.patch is not None:
        return make_patch(prepared.patch, prepared.model, folder, console.print)
    return write_model_files(prepared.model, folder, console.print), None


def remarks(summary: ExportSummary) -> list[str]:
    """For the terminal: the verdict, what was checked, and what the card could not say."""
    lines = [] if summary.verdict is None else [*verdict_lines(summary.verdict)]
    if summary.patch is not None:
        caution = whose_verdict(summary.patch)
        if summary.verdict is not None and caution is not None:
            lines.append(caution)
        lines += patch_lines(summary.patch)
    else:
        lines += _lines_of_checks(summary.checks)
    if summary.base.name is None:
        what = "The adapters' base" if summary.kind == "adapters" else "The base model"
        lines.append(f"{what} was a local folder and is named by its hash alone: --base-model OWNER/NAME names it.")
    if not summary.license:
        lines.append("No licence is stated: the base model's card is not at hand, or says none; --license states one.")
    return lines


def _lines_of_checks(checks: Checks) -> list[str]:
    lines = [f"Checked: loaded from scratch, the same log-probabilities on {checks.tokens} tokens, all weights finite."]
    if checks.conversion:
        lines.append(
            f"{checks.conversion.capitalize()} changed log-probabilities by {checks.mean_change:.2g} on average, "
            f"{checks.largest_change:.2g} at most (accepted: {checks.tolerance:.2g} on average)."
        )
    return lines


def _refuse_paths(prepared: PreparedExport, folder: Path) -> None:
    """The last look before publishing: no text file names a folder or file of this machine."""
    local = [*_local_sources(prepared.run), str(prepared.request.run)]
    resolved = [str(Path(source).resolve()) for source in local]
    private = [path for path in (*local, *resolved) if "/" in path]
    for file in folder.iterdir():
        if file.suffix not in TEXT_FILES:
            continue
        text = file.read_text(encoding="utf-8")
        for path in private:
            if path in text:
                raise UserError(f"{file.name} of the run's model names {path}, which would be published: take it out")


def _local_sources(run: UnlearningSummary) -> list[str]:
    """Names of the run's models and rows that are files or folders, as far as anybody can tell."""
    parts = [run.model, run.retain_model, run.base_model, *run.data.values()]
    sources = [part.source for part in parts if part is not None and part.source]
    named_like_files = [source for source in sources if "/" in source or "." in source]
    return [s for s in named_like_files if not (public_name(s, "model") or public_name(s, "dataset"))]
