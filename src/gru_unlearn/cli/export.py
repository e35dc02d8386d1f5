"""``gru export``: a run's model with a model card, ready to be published."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gru_unlearn.results.export_summary import ExportSummary


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    out: Annotated[Path, typer.Option(help="Folder to write; new or empty.")],
    merge: Annotated[bool, typer.Option("--merge", help="Merge LoRA adapters into their base model.")] = False,
    dtype: Annotated[str | None, typer.Option(help="Convert to bfloat16 or float32.", show_default="as is")] = None,
    max_shard_size: Annotated[str | None, typer.Option(help="Split the weights, such as 5GB.")] = None,
    base_model: Annotated[
        str | None, typer.Option(help="Hub name of the model that the run started from, if it was a local copy.")
    ] = None,
    license_: Annotated[
        str | None, typer.Option("--license", help="Such as mit.", show_default="as the base model's card says")
    ] = None,
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder by gru evaluate to show: of the run's model, its target, its retain model. Repeatable."
        ),
    ] = None,
    push: Annotated[str | None, typer.Option(help="Upload to this new hub repository, OWNER/NAME.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Make that repository private.")] = False,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run a model's own code.")] = False,
) -> None:
    """Write a run's model with a model card, checked by loading it again; upload it if asked.

    The card says by number and hash what was removed, never its text, and names no file or folder of this machine.
    """
    from rich.console import Console  # noqa: PLC0415 - heavy imports wait for a command

    from gru_unlearn.models.loading import quiet  # noqa: PLC0415
    from gru_unlearn.publishing.export_inputs import prepare_export  # noqa: PLC0415
    from gru_unlearn.publishing.export_job import export as write  # noqa: PLC0415
    from gru_unlearn.publishing.export_request import ExportRequest  # noqa: PLC0415

    quiet()
    console = Console(markup=False)  # paths may hold brackets
    request = ExportRequest(
        run=run,
        out=out,
        merge=merge,
        dtype=dtype,
        max_shard_size=max_shard_size,
        base_model=base_model,
        license=license_,
        evaluations=tuple(evaluation or ()),
        push=push,
        private=private,
        trust_remote_code=trust_remote_code,
    )
    summary = write(prepare_export(request), console)
    for line in remarks(summary):
        console.print(line, soft_wrap=True, highlight=False)
    console.print(f"Results: {out}/summary.json · model card: {out}/README.md", soft_wrap=True)


def remarks(summary: "ExportSummary") -> list[str]:
    """What was checked, and what the card could not say."""
    checks = summary.checks
    lines = [f"Checked: loaded from scratch, the same log-probabilities on {checks.tokens} tokens, all weights finite."]
    if checks.conversion:
        lines.append(
            f"{checks.conversion.capitalize()} changed log-probabilities by {checks.mean_change:.2g} on average, "
            f"{checks.largest_change:.2g} at most (accepted: {checks.tolerance:.2g} on average)."
        )
    if summary.base.name is None:
        what = "The adapters' base" if summary.kind == "adapters" else "The base model"
        lines.append(f"{what} was a local folder and is named by its hash alone: --base-model OWNER/NAME names it.")
    if not summary.license:
        lines.append("No licence is stated: the base model's card is not at hand, or says none; --license states one.")
    return lines
