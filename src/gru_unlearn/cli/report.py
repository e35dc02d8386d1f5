"""``gru report``: everything about a run, a comparison, a demonstration, an evaluation or an attack on one page."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a run, comparison, demo, evaluation or attack.")],
    out: Annotated[Path | None, typer.Option(help="The report's file.", show_default="FOLDER/report.html")] = None,
) -> None:
    """Write one HTML file that anybody can open: verdict, plots, rows before and after, and what was done with what."""
    from rich.console import Console  # noqa: PLC0415 - heavy imports wait for a command

    from gru_unlearn.publishing.reports import write_report  # noqa: PLC0415

    Console(markup=False).print(f"Report: {write_report(folder, out)}", soft_wrap=True)
