"""``gru demo``: the main job on the built-in model."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from gru_unlearn.cli.flags import command, show_results
from gru_unlearn.common.options import option


@dataclass(frozen=True)
class DemoRequest:
    """Where to, and with which luck."""

    out: Path = option("Folder of the results.", Path("runs/demo"))
    seed: int = option("Seed of everything random.", 0)


@command(DemoRequest)
def demo(request: DemoRequest, console: Console) -> None:
    """Unlearn five invented people from a tiny built-in model, with and without GRU, and compare. Downloads nothing."""
    from gru_unlearn.comparison.demo_job import demo as run  # noqa: PLC0415 - heavy imports wait for a command
    from gru_unlearn.comparison.demo_tables import demo_report  # noqa: PLC0415

    for part in demo_report(run(request.out, console, seed=request.seed)):
        console.print(part)
    show_results(console, request.out, models="*/model", report_of=request.out)
