"""``gru report``: everything about a run, a comparison, an evaluation, an attack or a ledger on one page."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from gru_unlearn.cli.flags import command
from gru_unlearn.common.options import option


@dataclass(frozen=True)
class ReportRequest:
    """Of what, and where to."""

    folder: Path = option(
        "Folder of a run, comparison, demo, evaluation, attack or ledger.", argument=True, place="folder"
    )
    out: Path | None = option("The report's file.", None, shown="FOLDER/report.html")
    request: str = option(
        "Which request a run answers: its number or date in your files.", "", shown="a line to fill in"
    )
    responsible: str = option("Who answers for it.", "", shown="a line to fill in")
    without_rows: bool = option("Leave out single rows, which are your data in plain text.", False)


@command(ReportRequest, models=False)
def report(request: ReportRequest, console: Console) -> None:
    """Write one HTML file that anybody can open: verdict, plots, rows before and after, and what was done with what."""
    from gru_unlearn.publishing.material import ReportOptions  # noqa: PLC0415 - heavy imports wait for a command
    from gru_unlearn.publishing.reports import write_report  # noqa: PLC0415

    options = ReportOptions(request.request, request.responsible, rows=not request.without_rows)
    console.print(f"Report: {write_report(request.folder, request.out, options)}", soft_wrap=True)
