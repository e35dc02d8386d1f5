"""``gru demo``: the main job on the built-in model."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
) -> None:
    """Unlearn five invented people from a tiny built-in model, with and without GRU, and compare. Downloads nothing."""
    from rich.console import Console  # noqa: PLC0415 - heavy imports wait for a command

    from gru_unlearn.comparison.demo_job import demo as run  # noqa: PLC0415
    from gru_unlearn.comparison.demo_tables import demo_report  # noqa: PLC0415
    from gru_unlearn.models.loading import quiet  # noqa: PLC0415
    from gru_unlearn.publishing.reports import report_beside  # noqa: PLC0415

    quiet()
    console = Console(markup=False)  # paths may hold brackets
    summary = run(out, console, seed=seed)
    for part in demo_report(summary):
        console.print(part)
    report = report_beside(out, console)
    console.print(f"Results: {out}/summary.json · models: {out}/*/model{report}", soft_wrap=True)
