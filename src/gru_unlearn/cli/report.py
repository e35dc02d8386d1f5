"""``gru report``: everything about a run, a comparison, a demonstration, an evaluation or an attack on one page."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from gru_unlearn.cli.flags import command
from gru_unlearn.common.options import option


@dataclass(frozen=True)
class ReportRequest:
    """Of what, and where to."""

    folder: Path = option("Folder of a run, comparison, demo, evaluation or attack.", argument=True, place="folder")
    out: Path | None = option("The report's file.", None, shown="FOLDER/report.html")


@command(ReportRequest, models=False)
def report(request: ReportRequest, console: Console) -> None:
    """Write one HTML file that anybody can open: verdict, plots, rows before and after, and what was done with what."""
    from gru_unlearn.publishing.reports import write_report  # noqa: PLC0415 - heavy imports wait for a command

    console.print(f"Report: {write_report(request.folder, request.out)}", soft_wrap=True)
