"""``gru compare``: objectives × rectifications × learning rates × seeds, fairly, in one table."""

import click
from rich.console import Console

from gru_unlearn.cli.flags import command, show_results, wide
from gru_unlearn.cli.settings_flags import GivenSettings, SettingsCommand
from gru_unlearn.common.options import parse_names
from gru_unlearn.comparison.comparison_request import ComparisonRequest
from gru_unlearn.reporting.prose import say
from gru_unlearn.runs.setting_names import check_choice


class CompareCommand(SettingsCommand):
    """Knows the names that are compared."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Sort the words.

        Raises:
            UserError: a word that belongs to nothing, or an objective, rectification or robustness that there is not.
        """
        left = super().parse_args(ctx, args)
        if ctx.resilient_parsing:  # for completion, and for pages about the command
            return left
        compared = {"objectives": "objective", "rectifications": "rectification", "robustness": "robust"}
        for flag, setting in compared.items():
            for name in parse_names(ctx.params.get(flag) or ""):
                check_choice(setting, name.partition("@")[0])
        return left


@command(ComparisonRequest, kind=CompareCommand)
def compare(request: ComparisonRequest, given: GivenSettings, console: Console) -> None:
    """Compare methods at matched forgetting: gru compare [RECIPE.yaml] --objectives npo,ga --seeds 5 [FLAGS].

    Every setting of gru unlearn works as a flag and holds for all runs. Without a recipe, a model and data, the
    built-in benchmark is taken.
    """
    from gru_unlearn.comparison.compare_job import compare as run  # noqa: PLC0415 - heavy imports wait for a command
    from gru_unlearn.comparison.comparison_tables import comparison_report  # noqa: PLC0415
    from gru_unlearn.comparison.equal_terms import on_equal_terms, told  # noqa: PLC0415
    from gru_unlearn.comparison.matrix import choose_matrix  # noqa: PLC0415
    from gru_unlearn.comparison.matrix_plan import plan  # noqa: PLC0415

    matrix = on_equal_terms(choose_matrix(request, given.recipe, given.flags), request)
    overwrite, out = request.overwrite_output_dir, request.output_dir
    if told(matrix.terms):
        say(console, told(matrix.terms))
    if request.dry_run:
        to_do = len(plan(matrix, overwrite=overwrite).cells)
        console.print(f"{len(matrix.cells)} runs, {to_do} of them still to do. Everything checked, nothing written.")
        return
    for part in comparison_report(run(matrix, console, jobs=request.jobs, overwrite=overwrite)):
        on = console if isinstance(part, str) else wide(console, 80)
        on.print(part, highlight=False)
    show_results(console, out, report_of=out)
