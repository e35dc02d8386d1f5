"""``gru report``: everything about a run, a comparison, a demonstration, an evaluation or an attack on one page."""

import json
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from gru_unlearn.cli.flags import command
from gru_unlearn.common.options import option
from gru_unlearn.errors import UserError


@dataclass(frozen=True)
class ReportRequest:
    """Of what, and where to."""

    folder: Path = option("Folder of a run, comparison, demo, evaluation or attack.", argument=True, place="folder")
    out: Path | None = option("The report's file.", None, shown="FOLDER/report.html")


@command(ReportRequest, models=False)
def report(request: ReportRequest, console: Console) -> None:
    """Write one HTML file that anybody can open: verdict, plots, rows before and after, and what was done with what."""
    _refuse_what_has_no_page(request.folder)
    from gru_unlearn.publishing.reports import write_report  # noqa: PLC0415 - heavy imports wait for a command

    console.print(f"Report: {write_report(request.folder, request.out)}", soft_wrap=True)


def _refuse_what_has_no_page(folder: Path) -> None:
    """Say of folders that gru wrote, and that have no page, what shows them instead.

    Raises:
        UserError: it is one.
    """
    if (folder / "ledger.sqlite").is_file():
        versions = [run.parent for run in sorted(folder.glob("versions/*/summary.json"))]
        newest = f"; the newest model's run has one: gru report {versions[-1]}" if versions else ""
        raise UserError(f"{folder} is a ledger: gru requests show {folder} tells how its requests stand{newest}")
    if command_of(folder) == "tru":
        raise UserError(
            f"{folder} is of gru tru, whose numbers are in {folder}/summary.json: gru evaluate --model {folder} "
            "--suite own --forget ROWS measures its model, and that evaluation has a report"
        )


def command_of(folder: Path) -> str:
    """Which command wrote a folder; empty where none did."""
    try:
        content = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(content.get("command", "")) if isinstance(content, dict) else ""
