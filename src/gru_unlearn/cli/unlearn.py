"""``gru unlearn``: one run, from a recipe and flags."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console


def unlearn(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="Model folder, hub id, or builtin:target.")] = None,
    forget: Annotated[str | None, typer.Option(help="File, FOLDER:NAME, hub data set, or builtin:forget.")] = None,
    retain: Annotated[str | None, typer.Option(help="What must stay; likewise.")] = None,
    held_out: Annotated[str | None, typer.Option(help="What must stay and is never trained on, to measure.")] = None,
    retain_model: Annotated[str | None, typer.Option(help="Model that never saw the forget set.")] = None,
    objective: Annotated[str | None, typer.Option(help="npo, ga, wga, simnpo, rmu, ...: --list-settings.")] = None,
    rectification: Annotated[str | None, typer.Option(help="none, gru, recommended, ...: --list-settings.")] = None,
    learning_rate: Annotated[str | None, typer.Option(help="Peak learning rate.")] = None,
    max_steps: Annotated[str | None, typer.Option(help="Optimizer steps; instead of --num-train-epochs.")] = None,
    num_train_epochs: Annotated[str | None, typer.Option(help="Passes over the forget set.")] = None,
    per_device_train_batch_size: Annotated[str | None, typer.Option(help="Forget rows per backward pass.")] = None,
    gradient_accumulation_steps: Annotated[str | None, typer.Option(help="Backward passes per step.")] = None,
    seed: Annotated[str | None, typer.Option(help="Seed of everything random.")] = None,
    output_dir: Annotated[str | None, typer.Option(help="Folder of the run.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the plan, write nothing.")
    ] = False,
    overwrite_output_dir: Annotated[
        bool, typer.Option("--overwrite-output-dir", help="Discard the run in the output folder.")
    ] = False,
    list_settings: Annotated[
        bool, typer.Option("--list-settings", help="Show every setting; each works as flag and in a recipe.")
    ] = False,
) -> None:
    """Forget one set and keep another: gru unlearn [RECIPE.yaml] [FLAGS].

    The recipe holds settings, flags override it. Every setting that --list-settings shows works as a flag too.
    """
    from rich.console import Console  # noqa: PLC0415 - heavy imports wait for a command

    from gru_unlearn.common.processes import is_first  # noqa: PLC0415

    console = Console(quiet=not is_first(), markup=False)  # paths may hold brackets
    if list_settings:
        _show_settings(console)
        return
    flags = {
        name: value
        for name, value in context.params.items()
        if value is not None and name not in ("dry_run", "overwrite_output_dir", "list_settings")
    }
    recipe, further_flags = parse_extra(context.args)
    flags |= further_flags

    from gru_unlearn.models.loading import quiet  # noqa: PLC0415
    from gru_unlearn.publishing.reports import report_beside  # noqa: PLC0415
    from gru_unlearn.runs.recipe import make_recipe, read_recipe  # noqa: PLC0415
    from gru_unlearn.runs.run_preparation import describe_run, prepare  # noqa: PLC0415
    from gru_unlearn.runs.run_tables import run_table  # noqa: PLC0415
    from gru_unlearn.runs.unlearn_job import unlearn as run  # noqa: PLC0415

    quiet()
    settings = (read_recipe(recipe) if recipe else {}) | flags
    prepared = prepare(make_recipe(settings, on_any_machine=dry_run), overwrite=overwrite_output_dir)
    if dry_run:
        for name, value in describe_run(prepared):
            console.print(f"{name:>18}  {value}", soft_wrap=True, highlight=False)
        console.print("Dry run: everything checked, nothing written.")
        return
    console.print(run_table(run(prepared, console)))
    if is_first():
        out, report = prepared.output, report_beside(prepared.output, console)
        console.print(f"Results: {out}/summary.json · model: {out}/model{report}", soft_wrap=True)


def parse_extra(words: list[str]) -> tuple[str | None, dict[str, str]]:
    """The recipe's path, if there is one, and the flags that are settings without an option of their own.

    Flags are ``--kebab-name value``, ``--kebab-name=value``, ``--switch`` or ``--no-switch``.

    Raises:
        UserError: a word that belongs to no flag.
    """
    from gru_unlearn.errors import UserError  # noqa: PLC0415

    recipe, settings = None, {}
    words = list(words)
    while words:
        word = words.pop(0)
        if recipe is None and _is_recipe(word):
            recipe = word
        elif not word.startswith("--") or word == "--":
            raise UserError(
                f"unexpected argument {word!r}: flags look like --learning-rate 1e-5, a recipe ends in .yaml"
            )
        else:
            name, given, value = word[2:].partition("=")
            if not given:
                is_value = words and not words[0].startswith("--") and not (recipe is None and _is_recipe(words[0]))
                value = words.pop(0) if is_value else "true"
                if value == "true" and name.startswith("no-"):
                    name, value = name[3:], "false"
            settings[name.replace("-", "_")] = value
    return recipe, settings


def _is_recipe(word: str) -> bool:
    return word.endswith((".yaml", ".yml"))


def _show_settings(console: "Console") -> None:
    from gru_unlearn.runs.recipe import describe_setting, setting_names  # noqa: PLC0415

    for name in setting_names():
        default, help_text = describe_setting(name)
        shown_default = f" [{default}]" if default else ""
        console.print(f"{name}{shown_default}: {help_text}", soft_wrap=True, highlight=False, markup=False)
