"""``gru tru``: unlearn by rectified task vectors, without retain data."""

from typing import Annotated

import typer

from gru_unlearn.cli.unlearn import parse_extra

OWN = ("groups", "alphas", "alpha", "granularity", "keep", "overwrite_output_dir")


def tru(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="Model folder, hub id, or builtin:target.")] = None,
    forget: Annotated[str | None, typer.Option(help="File, FOLDER:NAME, hub data set, or builtin:forget.")] = None,
    retain: Annotated[str | None, typer.Option(help="Rows that should stay, only to measure.")] = None,
    held_out: Annotated[str | None, typer.Option(help="More such rows, only to measure.")] = None,
    retain_model: Annotated[str | None, typer.Option(help="Model that never saw the forget set.")] = None,
    groups: Annotated[int, typer.Option(help="Blocks that the forget rows are cut into.")] = 2,
    alphas: Annotated[str | None, typer.Option(help="Multiples of the task vector to try: 0.5,1,2,4.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Take this multiple, whatever the others do.")] = None,
    granularity: Annotated[str, typer.Option(help="Rectify each tensor, or the model as one vector.")] = "tensor",
    learning_rate: Annotated[str | None, typer.Option(help="Peak learning rate of the fine-tunings.")] = None,
    num_train_epochs: Annotated[str | None, typer.Option(help="Passes over each group's rows.")] = None,
    use_peft: Annotated[bool | None, typer.Option("--use-peft", help="Fine-tune LoRA adapters, then merge.")] = None,
    seed: Annotated[str | None, typer.Option(help="Seed of everything random.")] = None,
    output_dir: Annotated[str | None, typer.Option("--out", "--output-dir", help="Folder of the run.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave task models and task vectors there.")] = False,
    overwrite_output_dir: Annotated[
        bool, typer.Option("--overwrite-output-dir", help="Discard the run in the output folder.")
    ] = False,
) -> None:
    """Forget without retain data, by rectified task vectors: gru tru [RECIPE.yaml] [FLAGS].

    Splits the forget rows in groups, fine-tunes the model on each and on all others, and subtracts what each group
    does not share with the others. Settings of gru unlearn work too (gru unlearn --list-settings).
    """
    from rich.console import Console  # noqa: PLC0415 - heavy imports wait for a command

    from gru_unlearn.models.loading import quiet  # noqa: PLC0415
    from gru_unlearn.runs.recipe import read_recipe  # noqa: PLC0415
    from gru_unlearn.runs.run_tables import tru_table  # noqa: PLC0415
    from gru_unlearn.runs.tru_job import tru as run  # noqa: PLC0415
    from gru_unlearn.runs.tru_options import ALPHAS, TruOptions  # noqa: PLC0415
    from gru_unlearn.runs.tru_preparation import prepare_tru  # noqa: PLC0415

    quiet()
    console = Console(markup=False)  # paths may hold brackets
    options = TruOptions(groups, ALPHAS if alphas is None else parse_alphas(alphas), alpha, granularity)
    flags = {name: value for name, value in context.params.items() if value is not None and name not in OWN}
    recipe, further_flags = parse_extra(context.args)
    settings = (read_recipe(recipe) if recipe else {}) | flags | further_flags
    prepared = prepare_tru(settings, options, overwrite=overwrite_output_dir)
    summary = run(prepared, console, keep=keep)
    console.print(tru_table(summary))
    out = prepared.run.output
    console.print(f"Results: {out}/summary.json · model: {out}/model", soft_wrap=True)


def parse_alphas(text: str) -> tuple[float, ...]:
    """``0.5,1,2`` as numbers.

    Raises:
        UserError: not numbers.
    """
    from gru_unlearn.errors import UserError  # noqa: PLC0415

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--alphas needs numbers with commas between them (0.5,1,2), got {text!r}") from None
