"""``gru export``: a run's model with a model card, ready to be published."""

from rich.console import Console

from gru_unlearn.cli.flags import command, show_results
from gru_unlearn.publishing.export_request import ExportRequest
from gru_unlearn.reporting.prose import say


@command(ExportRequest)
def export(request: ExportRequest, console: Console) -> None:
    """Write a run's model with a model card, checked by loading it again; upload it if asked.

    The card says by number and hash what was removed, never its text, and names no file or folder of this machine.
    """
    from gru_unlearn.publishing.export_inputs import prepare_export  # noqa: PLC0415 - heavy imports wait for a command
    from gru_unlearn.publishing.export_job import export as write  # noqa: PLC0415
    from gru_unlearn.publishing.export_job import remarks  # noqa: PLC0415

    for line in remarks(write(prepare_export(request), console)):
        say(console, line)
    show_results(console, request.out, model_card="README.md")
