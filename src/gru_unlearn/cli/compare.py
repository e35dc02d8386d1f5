"""``gru compare``: objectives × rectifications × learning rates × seeds, fairly, in one table."""

from typing import TYPE_CHECKING

from gru_unlearn.cli.flags import command, show_results, wide
from gru_unlearn.cli.settings_flags import GivenSettings, SettingsCommand
from gru_unlearn.comparison.comparison_request import ComparisonRequest, parse_learning_rates, parse_seeds, split
from gru_unlearn.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from gru_unlearn.comparison.compare_job import Matrix

NEEDED = ("model", "forget", "retain", "held_out", "retain_model")
"""Where neither a recipe nor one of these is given, the built-in benchmark stands for all of them."""

BUILTIN_RATES = "1e-4,3e-4"

PLURAL = {"objective": "--objectives", "rectification": "--rectifications", "seed": "--seeds"}


@command(ComparisonRequest, kind=SettingsCommand, featured={})
def compare(request: ComparisonRequest, given: GivenSettings, console: "Console") -> None:
    """Compare methods at matched forgetting: gru compare [RECIPE.yaml] --objectives npo,ga --seeds 5 [FLAGS].

    Every setting of gru unlearn works as a flag and holds for all runs. Without a recipe, a model and data, the
    built-in benchmark is taken.
    """
    from gru_unlearn.comparison.compare_job import compare as run  # noqa: PLC0415 - heavy imports wait for a command
    from gru_unlearn.comparison.compare_job import plan  # noqa: PLC0415
    from gru_unlearn.comparison.comparison_tables import comparison_report  # noqa: PLC0415

    matrix, overwrite = make_matrix(request, given), request.overwrite_output_dir
    if request.dry_run:
        to_do = [job for job in plan(matrix, overwrite=overwrite) if job["kind"] == "cell"]
        count = f"{len(matrix.cells)} runs, {len(to_do)} of them still to do"
        console.print(f"{count}. Everything checked, nothing written.")
        return
    for part in comparison_report(run(matrix, console, jobs=request.jobs, overwrite=overwrite)):
        on = console if isinstance(part, str) else wide(console, 120)
        on.print(part, highlight=False)
    show_results(console, request.output_dir, report_of=request.output_dir)


def make_matrix(request: ComparisonRequest, given: GivenSettings) -> "Matrix":
    """What is compared: settings that all runs share, from recipe and flags, and what differs between them.

    Raises:
        UserError: the first thing that cannot be compared.
    """
    from gru_unlearn.comparison.compare_job import Matrix, builtin_settings, suite_request  # noqa: PLC0415
    from gru_unlearn.training import UnlearningConfig  # noqa: PLC0415

    for name, plural in PLURAL.items():
        if name in given.flags:
            raise UserError(f"--{name} is for one run: gru compare takes {plural}")
    settings, default_rates = given.merged(), str(UnlearningConfig.learning_rate)
    if given.recipe is None and given.flags.keys().isdisjoint(NEEDED):
        settings, default_rates = builtin_settings() | settings, BUILTIN_RATES
    compared = split(request.objectives or str(settings.get("objective", UnlearningConfig.objective)), "--objectives")
    rates = request.learning_rates or str(settings.get("learning_rate", default_rates))
    return Matrix(
        settings=settings,
        objectives=compared,
        rectifications=split(request.rectifications, "--rectifications"),
        learning_rates=parse_learning_rates(rates, compared),
        seeds=parse_seeds(request.seeds),
        output=request.output_dir,
        suite=suite_request(settings, request.suite, request.suite_data, request.forget_split),
    )
