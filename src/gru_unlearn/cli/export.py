"""``gru export``: a run's model with a model card, ready to be published."""

from rich.console import Console

from gru_unlearn.cli.flags import command, show_results
from gru_unlearn.publishing.export_request import ExportRequest


@command(ExportRequest)
def export(request: ExportRequest, console: Console) -> None:
    """Write a run's model with a model card, checked by loading it again; upload it if asked.

    The card says by number and hash what was removed, never its text, and names no file or folder of this machine.
    """
    from gru_unlearn.publishing.export_job import export as write  # noqa: PLC0415 - heavy imports wait for a command
    from gru_unlearn.publishing.export_job import prepare_export  # noqa: PLC0415

    for line in remarks(write(prepare_export(request), console)):
        console.print(line, soft_wrap=True, highlight=False)
    show_results(console, request.out, model_card="README.md")


def remarks(summary: dict) -> list[str]:
    """What was checked, and what the card could not say."""
    checks = summary["checks"]
    lines = [
        f"Checked: loaded from scratch, the same log-probabilities on {checks['tokens']} tokens, all weights finite."
    ]
    if checks["conversion"]:
        lines.append(
            f"{checks['conversion'].capitalize()} changed log-probabilities by {checks['mean_change']:.2g} on average, "
            f"{checks['largest_change']:.2g} at most (accepted: {checks['tolerance']:.2g} on average)."
        )
    if not summary["base"]["name"]:
        what = "The adapters' base" if summary["kind"] == "adapters" else "The base model"
        lines.append(f"{what} was a local folder and is named by its hash alone: --base-model OWNER/NAME names it.")
    if not summary["license"]:
        lines.append("No licence is stated: the base model's card is not at hand, or says none; --license states one.")
    return lines
