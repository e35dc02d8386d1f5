"""``gru plan``: how much memory a run needs, and the smallest set-up that fits."""

from rich.console import Console

from gru_unlearn.cli.flags import command, show_results, wide
from gru_unlearn.planning.plan_request import PlanRequest
from gru_unlearn.reporting.prose import say


@command(PlanRequest)
def plan(request: PlanRequest, console: Console) -> None:
    """Calculate the memory of a run from the model's shape: by part, by way of running it, before renting anything."""
    from gru_unlearn.planning import plan_tables as told  # noqa: PLC0415
    from gru_unlearn.planning.plan_job import plan as calculate  # noqa: PLC0415 - heavy imports wait for a command
    from gru_unlearn.planning.plan_job import write_plan  # noqa: PLC0415

    summary = calculate(request)
    how_to_read = told.HOW_TO_READ
    if request.parts:  # eleven columns: a narrower terminal wraps whole lines
        wide(console, 140).print(told.parts_table(summary))
        how_to_read = told.PARTS_EXPLAINED
    else:
        console.print(told.plan_table(summary))
    for line in (how_to_read, *told.advice(summary)):
        say(console, line)
    if request.out:
        write_plan(summary, request.out, overwrite=request.overwrite_output_dir)
        show_results(console, request.out)
