"""``gru unlearn``: one run, from a recipe and flags."""

from dataclasses import dataclass

from rich.console import Console

from gru_unlearn.cli.flags import command, show_results, show_verdict
from gru_unlearn.cli.settings_flags import Featured, GivenSettings, SettingsCommand
from gru_unlearn.cli.settings_list import list_settings
from gru_unlearn.common.options import option
from gru_unlearn.reporting.prose import say


@dataclass(frozen=True)
class UnlearnOptions:
    """What is no setting of a run."""

    dry_run: bool = option("Check everything, print the plan, write nothing.", False)
    overwrite_output_dir: bool = option("Discard the run in the output folder.", False)
    list_settings: str | None = option(
        "Show every setting, or those with this word; each works as flag and in a recipe.",
        None,
        shows=True,
        flag_value="all",
    )


@command(UnlearnOptions, kind=SettingsCommand, featured=Featured, needed=("model", "forget"))
def unlearn(options: UnlearnOptions, given: GivenSettings, console: Console) -> None:
    """Forget one set and keep another: gru unlearn [RECIPE.yaml] [FLAGS].

    The recipe holds settings, flags override it. Every setting that --list-settings shows works as a flag too.
    """
    if options.list_settings:
        word = "" if options.list_settings == "all" else options.list_settings
        for line in list_settings(word, console.width):
            say(console, line)
        return
    from gru_unlearn.runs.forewarnings import forewarn  # noqa: PLC0415 - heavy imports wait for a command
    from gru_unlearn.runs.recipe import make_recipe  # noqa: PLC0415
    from gru_unlearn.runs.rehearsal import rehearse  # noqa: PLC0415
    from gru_unlearn.runs.run_learning_rate import with_own_rate  # noqa: PLC0415
    from gru_unlearn.runs.run_precision import describe_precision  # noqa: PLC0415
    from gru_unlearn.runs.run_preparation import describe_run, prepare  # noqa: PLC0415
    from gru_unlearn.runs.run_tables import end_line, run_table  # noqa: PLC0415
    from gru_unlearn.runs.unlearn_job import unlearn as run  # noqa: PLC0415

    settings = with_own_rate(given.merged(), goes_on=not options.overwrite_output_dir)
    recipe = make_recipe(settings, on_any_machine=options.dry_run)
    console.print("Checking rows, models and the output folder ...")
    prepared = prepare(recipe, overwrite=options.overwrite_output_dir, idle_settings=False, rehearsed=options.dry_run)
    forewarn(prepared)
    if options.dry_run:
        left_out = rehearse(prepared)
        for name, value in [*describe_run(prepared), ("precision", describe_precision(prepared))]:
            say(console, f"{name:>18}  {value}")
        say(console, f"Dry run: everything checked{left_out}, nothing written.")
        return
    summary = run(prepared, console)
    console.print(run_table(summary))
    show_verdict(console, summary.verdict)
    if (ending := end_line(summary)) is not None:
        say(console, ending)
    show_results(console, prepared.output, model="model", report_of=prepared.output)
