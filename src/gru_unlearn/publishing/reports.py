"""One folder → one HTML report: gather what is there, render it, write it."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from pydantic import JsonValue
from rich.console import Console

from gru_unlearn.benchmark.all_metrics import metrics_by_key
from gru_unlearn.benchmark.evaluated_rows import evaluated_rows, load_tables
from gru_unlearn.common.explanation import Explanation
from gru_unlearn.common.files import hash_file, read_json, write_text
from gru_unlearn.errors import UserError
from gru_unlearn.publishing.attack_page import attack_page
from gru_unlearn.publishing.command_line import command_to_repeat, given_settings
from gru_unlearn.publishing.comparison_page import compare_page, demo_page
from gru_unlearn.publishing.evaluation_page import evaluation_page
from gru_unlearn.publishing.ledger_page import ledger_page
from gru_unlearn.publishing.material import Explained, KeptRun, Material, Reported, ReportOptions
from gru_unlearn.publishing.run_page import run_page
from gru_unlearn.publishing.tru_page import tru_page
from gru_unlearn.reporting.page import page_html
from gru_unlearn.reporting.parts import Page
from gru_unlearn.reporting.prose import say
from gru_unlearn.results.attack_summary import AttackSummary
from gru_unlearn.results.comparison_summary import ComparisonSummary, DemoSummary
from gru_unlearn.results.evaluation_summary import EvaluationSummary
from gru_unlearn.results.file_model import IncompleteFile
from gru_unlearn.results.ledger_summary import LedgerSummary
from gru_unlearn.results.row_examples import Examples
from gru_unlearn.results.row_kinds import ROW_KINDS
from gru_unlearn.results.run_folder import RunFolder
from gru_unlearn.results.run_summary import RunRecord, RunSummary, TruSummary
from gru_unlearn.results.summaries import read_summary

REPORTED = tuple(kind.model_fields["command"].default for kind in get_args(Reported))
"""The commands whose folders have a report."""

SIGNED = (RunSummary, TruSummary, LedgerSummary)
"""Kinds of summary whose report has a place to sign."""

CONFLICT_RATE = Explanation(
    key="conflict_rate",
    definition="Share of the logged steps in which the rectification changed the gradient",
    range="0 to 1",
    better="",
    source="this package",
)

SINGLE_ROWS = ("sample",)
"""Keys of a summary that hold text of rows."""

SURVIVING_SHARE = Explanation(
    key="surviving_share",
    definition="Share of the length of the logged steps that rounding to the weights' type left, at least",
    range="0 to 1",
    better="higher",
    source="this package",
)


def write_report(folder: Path, out: Path | None = None, options: ReportOptions | None = None) -> Path:
    """Write the report of a run, a comparison, a demonstration, an evaluation, an attack or a ledger.

    Returns:
        Its file.

    Args:
        folder: holds the ``summary.json`` of one of these.
        out: the report's file; by default ``report.html`` in the folder.
        options: what stands on it beside what is in the folder.

    Raises:
        UserError: the folder has no such summary, or one of another version that lacks what a report needs; or the
            options name a request, and such a report has no place for it.
    """
    file, options = out or RunFolder(folder).report_file, options or ReportOptions()
    if file.is_dir():
        raise UserError(f"--out {file} is a folder: name a file, such as {file}/{RunFolder(file).report_file.name}")
    material = replace(gather(folder), options=options)
    if (options.request or options.responsible) and not isinstance(material.summary, SIGNED):
        raise UserError(
            f"--request and --responsible stand where a report is signed, that of a run or of a ledger: {folder} is of "
            f"gru {material.summary.command}"
        )
    write_text(file, report_html(material))
    return file


def report_html(material: Material) -> str:
    """The report of one folder as HTML text."""
    return page_html(
        _page(material),
        folder=material.folder,
        when=material.when,
        command=command_to_repeat(material.summary, material.given),
        summary=_embedded(material),
    )


def _embedded(material: Material) -> JsonValue:
    """The summary as it stands in its file; without single rows where none are wanted."""
    content = material.content
    if material.options.rows or not isinstance(content, dict):
        return content
    return {name: value for name, value in content.items() if name not in SINGLE_ROWS}


def _page(material: Material) -> Page:
    summary = material.summary
    if isinstance(summary, DemoSummary):
        return demo_page(summary, material)
    if isinstance(summary, ComparisonSummary):
        return compare_page(summary, material)
    if isinstance(summary, EvaluationSummary):
        return evaluation_page(summary, material)
    if isinstance(summary, AttackSummary):
        return attack_page(summary, material)
    if isinstance(summary, LedgerSummary):
        return ledger_page(summary, material)
    return _page_of_run(summary, material)


def _page_of_run(summary: RunSummary | TruSummary, material: Material) -> Page:
    if isinstance(summary, TruSummary):
        return tru_page(summary, material)
    return run_page(summary, material)


def report_beside(folder: Path, console: Console) -> str:
    """Write a finished job's report; the text that tells where it is. A job does not fail for want of its report."""
    try:
        return f" · report: {write_report(folder)}"
    except Exception as error:
        say(console, f"No report ({error}); `gru report {folder}` tries again.")
        return ""


def gather(folder: Path) -> Material:
    """Everything in a folder that a report can show.

    Raises:
        UserError: no summary there, or one that has no report.
    """
    run = RunFolder(folder)
    content = read_json(run.summary_file)
    summary = _reported(run, content)
    when = _when(summary.finished, run.summary_file)
    material = Material(str(folder), summary, content, metrics=explanations(), when=when)
    material = replace(material, summary_sha256=hash_file(run.summary_file))
    if isinstance(summary, RunSummary | TruSummary):
        examples, attack = Examples.read(run.examples_file), _attack_on(run, summary)
        return replace(material, given=given_settings(run), examples=examples, attack=attack)
    if isinstance(summary, EvaluationSummary):
        tables = load_tables(run)
        return replace(material, examples=evaluated_rows(summary.data, tables), tables=tables)
    if isinstance(summary, DemoSummary):
        return replace(material, runs=_runs_of(summary, folder))
    return material


def _when(finished: str | None, file: Path) -> str:
    """When a job was finished. Where its summary does not say that, the time of its file, and that it is this: it
    changes when a folder is copied."""
    try:
        return f"{datetime.fromisoformat(finished or '').astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return f"{datetime.fromtimestamp(file.stat().st_mtime, UTC):%Y-%m-%d %H:%M} UTC (time of its file)"


def _reported(run: RunFolder, content: object) -> Reported:
    file = run.summary_file
    if not isinstance(content, dict):
        raise UserError(f"{run.path} has no {file.name}: name the folder of a finished run, comparison or evaluation")
    command = content.get("command")
    if command not in REPORTED:
        raise UserError(f"{file} is of {command or 'something else'}: a report needs one of {', '.join(REPORTED)}")
    try:
        summary = read_summary(file)
    except IncompleteFile as error:
        raise UserError(f"{run.path} lacks what a report needs: {error}") from None
    assert isinstance(summary, Reported)
    return summary


def _attack_on(folder: RunFolder, summary: RunRecord) -> AttackSummary | None:
    """The attack in a run's folder, unless it was on another model (``gru attack RUN --model OTHER``)."""
    attack = AttackSummary.read(folder.attack.summary_file)
    if attack is None or attack.settings.get("model") is None:
        return attack
    own, named = folder.path / summary.output_model, Path(str(attack.settings["model"]))
    return attack if named.resolve() == own.resolve() else None


def _runs_of(summary: DemoSummary, folder: Path) -> dict[str, KeptRun]:
    """The runs that a demonstration kept, by their names in its table."""
    found = {}
    for row in summary.results:
        run = RunFolder(folder / f"{row.objective}-{row.rectification}")
        kept = RunSummary.read(run.summary_file)
        if kept is not None:
            found[row.name] = KeptRun(kept, Examples.read(run.examples_file))
    return found


def explanations() -> Explained:
    """What every metric means, also by the names that metrics have along a run."""
    found = metrics_by_key()
    along = {kind.probability: found[kind.metric] for kind in ROW_KINDS}
    return found | along | {one.key: one for one in (CONFLICT_RATE, SURVIVING_SHARE)}
