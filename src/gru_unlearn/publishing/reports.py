"""One folder → one HTML report: gather what is there, render it, write it."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from gru_unlearn.benchmark.metric_index import metrics_by_key
from gru_unlearn.common.files import read_json, write_text
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation.table import Entry, Missing, ScoreTable
from gru_unlearn.publishing.command_line import reproduce
from gru_unlearn.publishing.material import Material
from gru_unlearn.publishing.pages import PAGES, make_page
from gru_unlearn.reporting.page import page_html
from gru_unlearn.results.file_model import first_problem
from gru_unlearn.results.run_folder import EXAMPLES_FILE, RUN_FILE, SUMMARY_FILE, RunFolder

REPORT_FILE = "report.html"
ATTACK_FOLDER = "attack"
ALIASES = {"forget_prob": "forget_Q_A_Prob", "retain_prob": "retain_Q_A_Prob", "held_out_prob": "held_out_Q_A_Prob"}
"""Names along a run → the metrics that they are."""

MOST_ROWS = 200
"""Of each set of an evaluation; the worst ones."""

CONFLICT_RATE = {
    "definition": "Share of the logged steps in which the rectification changed the gradient",
    "range": "0 to 1",
    "better": "",
    "source": "this package",
}


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write the report of a run, a comparison, a demonstration, an evaluation or an attack, and return its file.

    Args:
        folder: holds the ``summary.json`` of one of these.
        out: the report's file; by default ``report.html`` in the folder.

    Raises:
        UserError: the folder has no such summary, or one of another version that lacks what a report needs.
    """
    file = out or folder / REPORT_FILE
    if file.is_dir():
        raise UserError(f"--out {file} is a folder: name a file, such as {file}/{REPORT_FILE}")
    material = gather(folder)
    try:
        page = report_html(material)
    except (KeyError, TypeError, ValidationError) as error:
        reason = first_problem(error) if isinstance(error, ValidationError) else error
        raise UserError(
            f"{folder}/{SUMMARY_FILE} lacks what a report needs ({reason}): was it written by another version?"
        ) from error
    write_text(file, page)
    return file


def report_html(material: Material) -> str:
    """The report of one folder as HTML text.

    Raises:
        KeyError: the summary is of no kind that has a report, or lacks what its kind needs.
    """
    return page_html(
        make_page(material),
        folder=material.folder,
        when=material.when,
        command=reproduce(material.summary, material.explicit),
        summary=material.summary,
    )


def report_beside(folder: Path, console: Console) -> str:
    """Write a finished job's report; the text that tells where it is. A job does not fail for want of its report."""
    try:
        return f" · report: {write_report(folder)}"
    except Exception as error:
        console.print(f"No report ({error}); `gru report {folder}` tries again.", soft_wrap=True, markup=False)
        return ""


def gather(folder: Path) -> Material:
    """Everything in a folder that a report can show.

    Raises:
        UserError: no summary there, or one that has no report.
    """
    file = folder / SUMMARY_FILE
    summary = _json(file)
    if not isinstance(summary, dict):
        raise UserError(f"{folder} has no {SUMMARY_FILE}: name the folder of a finished run, comparison or evaluation")
    command = summary.get("command")
    if command not in PAGES:
        raise UserError(f"{file} is of {command or 'something else'}: a report needs one of {', '.join(PAGES)}")
    started = _json(folder / RUN_FILE)
    tables = _score_tables(folder) if command == "evaluate" else {}
    return Material(
        folder=str(folder),
        summary=summary,
        explicit=started["settings"] if command == "unlearn" and isinstance(started, dict) else {},
        examples=_evaluated_rows(summary, tables) if command == "evaluate" else _json(folder / EXAMPLES_FILE),
        attack=_attack_on(folder, summary) if command == "unlearn" else None,
        runs=_runs_of_demo(folder, summary) if command == "demo" else {},
        metrics=explanations(),
        forget_retain_model=_forget_probability(tables.get("retain_model")),
        when=f"{datetime.fromtimestamp(file.stat().st_mtime, UTC):%Y-%m-%d %H:%M} UTC",
    )


def _json(file: Path) -> Any:
    try:
        return read_json(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {str(error).splitlines()[0]}") from None


def _attack_on(folder: Path, summary: Mapping[str, Any]) -> Any:
    """The attack in a run's folder, unless it was on another model (``gru attack RUN --model OTHER``)."""
    attack = _json(folder / ATTACK_FOLDER / SUMMARY_FILE)
    named = ((attack or {}).get("settings") or {}).get("model")
    own = folder / str(summary.get("output_model"))
    return attack if named is None or Path(named).resolve() == own.resolve() else None


def explanations() -> dict[str, dict[str, str]]:
    """Metric → definition, range, better and source; also by the names that metrics have along a run."""
    fields = ("definition", "range", "better", "source")
    found = {key: {name: getattr(metric, name) for name in fields} for key, metric in metrics_by_key().items()}
    found |= {alias: found[key] for alias, key in ALIASES.items()}
    return found | {"conflict_rate": CONFLICT_RATE}


def _runs_of_demo(folder: Path, summary: Mapping[str, Any]) -> dict[str, Material]:
    """The runs that a demonstration kept, by their names in its table."""
    folders = {row["name"]: folder / f"{row['objective']}-{row['rectification']}" for row in summary["results"]}
    return {name: gather(run) for name, run in folders.items() if (run / SUMMARY_FILE).is_file()}


# --- rows of an evaluation -------------------------------------------------------------------------------------------


def _score_tables(folder: Path) -> dict[str, ScoreTable]:
    files = {name: RunFolder(folder).scores_file(name) for name in ("model", "retain_model")}
    return {name: ScoreTable.load(file) for name, file in files.items() if file.is_file()}


def _forget_probability(table: ScoreTable | None) -> float | None:
    rows = _answers(table, "forget")
    values = [value for entry in rows if (value := _probability(entry)) is not None]
    return sum(values) / len(values) if values and len(values) == len(rows) else None


def _evaluated_rows(summary: Mapping[str, Any], tables: Mapping[str, ScoreTable]) -> dict[str, Any] | None:
    """Score tables in the form of a run's ``examples.json``."""
    if "model" not in tables:
        return None
    sets = {}
    for name in summary["data"]:
        rows = _answers(tables["model"], name)
        known = _answers(tables.get("retain_model"), name)
        whole = len(known) == len(rows)
        found: list[dict[str, Any]] = [
            {
                "row": number,
                "question": entry.prompt,
                "answer": entry.answer,
                "after": {"probability": _probability(entry)}
                | ({} if entry.generation is None else {"says": entry.generation}),
                "retain_model": {"probability": _probability(known[number])} if whole else None,
            }
            for number, entry in enumerate(rows)
        ]
        sign = -1 if name.startswith("forget") else 1
        worst = sorted(found, key=lambda row: sign * (row["after"]["probability"] or 0.0))[:MOST_ROWS]
        if worst:
            sets[name] = {"rows_in_set": len(rows), "rows": sorted(worst, key=lambda row: row["row"])}
    return {"generated": True, "sets": sets} if sets else None


def _answers(table: ScoreTable | None, name: str) -> Sequence[Entry]:
    try:
        return table.answers(name) if table else []
    except Missing:
        return []


def _probability(entry: Entry) -> float | None:
    return math.exp(-entry.loss) if math.isfinite(entry.loss) else None
