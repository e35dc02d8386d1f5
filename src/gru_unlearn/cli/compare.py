"""``gru compare``: objectives × rectifications × learning rates × seeds, fairly, in one table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from gru_unlearn.cli.unlearn import parse_extra
from gru_unlearn.errors import UserError, nearest

NEEDED = ("model", "forget", "retain", "held_out", "retain_model")
"""Where neither a recipe nor one of these is given, the built-in benchmark stands for all of them."""

BUILTIN_RATES = "1e-4,3e-4"

PLURAL = {"objective": "--objectives", "rectification": "--rectifications", "seed": "--seeds"}


def compare(
    context: typer.Context,
    objectives: Annotated[str | None, typer.Option(help="Such as npo,ga; default: the recipe's.")] = None,
    rectifications: Annotated[
        str,
        typer.Option(help="Such as none,gru,gru@retain_batch_size=32: settings of its own stand after @."),
    ] = "none,gru",
    learning_rates: Annotated[
        str | None,
        typer.Option(
            help="1e-4,2e-4 or 'npo=2e-4,4e-4;ga=5e-5'; default: the recipe's, or 1e-4,3e-4 on built-in data."
        ),
    ] = None,
    seeds: Annotated[str, typer.Option(help="How many (5: 0 to 4), or which (0,7).")] = "3",
    jobs: Annotated[int, typer.Option(help="Runs at a time; each gets its share of the threads.")] = 1,
    suite: Annotated[
        str | None,
        typer.Option(help="Evaluate saved models: builtin, tofu, own or none. Default: builtin for built-in data."),
    ] = None,
    suite_data: Annotated[str | None, typer.Option(help="Folder with the suite's files, or a hub data set.")] = None,
    forget_split: Annotated[str, typer.Option(help="For --suite tofu: forget01, forget05 or forget10.")] = "forget10",
    output_dir: Annotated[Path, typer.Option(help="Folder of the comparison.")] = Path("runs/compare"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every run, count them, write nothing.")] = False,
    overwrite_output_dir: Annotated[
        bool, typer.Option("--overwrite-output-dir", help="Discard the comparison in the output folder.")
    ] = False,
) -> None:
    """Compare methods at matched forgetting: gru compare [RECIPE.yaml] --objectives npo,ga --seeds 5 [FLAGS].

    Every setting of gru unlearn works as a flag and holds for all runs. Without a recipe, a model and data, the
    built-in benchmark is taken.
    """
    from rich.console import Console  # noqa: PLC0415 - heavy imports wait for a command

    recipe, flags = parse_extra(context.args)
    for name, plural in PLURAL.items():
        if name in flags:
            raise UserError(f"--{name} is for one run: gru compare takes {plural}")

    from gru_unlearn.comparison.compare_job import compare as run  # noqa: PLC0415
    from gru_unlearn.comparison.comparison_suite import suite_request  # noqa: PLC0415
    from gru_unlearn.comparison.comparison_tables import comparison_report  # noqa: PLC0415
    from gru_unlearn.comparison.matrix import Matrix, builtin_settings  # noqa: PLC0415
    from gru_unlearn.comparison.matrix_plan import plan  # noqa: PLC0415
    from gru_unlearn.models.loading import quiet  # noqa: PLC0415
    from gru_unlearn.publishing.reports import report_beside  # noqa: PLC0415
    from gru_unlearn.runs.recipe import read_recipe  # noqa: PLC0415
    from gru_unlearn.training import UnlearningConfig  # noqa: PLC0415

    quiet()
    console = Console(markup=False)  # paths may hold brackets
    built_in = not recipe and not any(name in flags for name in NEEDED)
    shared = builtin_settings() if built_in else read_recipe(recipe) if recipe else {}
    settings = {**shared, **flags}
    compared = split(objectives or str(settings.get("objective", UnlearningConfig.objective)), "--objectives")
    default_rates = BUILTIN_RATES if built_in else UnlearningConfig.learning_rate
    rates = learning_rates or str(settings.get("learning_rate", default_rates))
    matrix = Matrix(
        settings=settings,
        objectives=compared,
        rectifications=split(rectifications, "--rectifications"),
        learning_rates=parse_learning_rates(rates, compared),
        seeds=parse_seeds(seeds),
        output=output_dir,
        suite=suite_request(settings, suite, suite_data, forget_split),
    )
    if dry_run:
        to_do = len(plan(matrix, overwrite=overwrite_output_dir).cells)
        console.print(f"{len(matrix.cells)} runs, {to_do} of them still to do. Everything checked, nothing written.")
        return
    # Tables are made for 120 columns: squeezed into fewer, they would break names letter by letter.
    wide = Console(width=max(console.width, 120), markup=False)
    for part in comparison_report(run(matrix, console, jobs=jobs, overwrite=overwrite_output_dir)):
        (console if isinstance(part, str) else wide).print(part, highlight=False)
    console.print(f"Results: {output_dir}/summary.json{report_beside(output_dir, console)}", soft_wrap=True)


def split(text: str, flag: str) -> list[str]:
    """``"a, b"`` → ``["a", "b"]``, each once.

    Raises:
        UserError: nothing in it.
    """
    found = [word.strip() for word in text.split(",") if word.strip()]
    if not found:
        raise UserError(f"{flag} {text!r}: expected names or numbers with commas between them")
    return list(dict.fromkeys(found))


def parse_seeds(text: str) -> list[int]:
    """``"3"`` → ``[0, 1, 2]``; ``"0,7"`` → ``[0, 7]``; ``"7,"`` → ``[7]``.

    Raises:
        UserError: not whole numbers, none, or negative ones.
    """
    try:
        numbers = [int(word) for word in split(text, "--seeds")]
    except ValueError:
        numbers = [-1]
    seeds = numbers if "," in text else list(range(numbers[0]))
    if not seeds or min(seeds) < 0:
        raise UserError(f"--seeds {text}: expected how many seeds (5), or which (0,1,2)")
    return seeds


def parse_learning_rates(text: str, objectives: Sequence[str]) -> dict[str, list[float]]:
    """Objective → its grid, from one grid for all (``1e-4,2e-4``) or one for each (``npo=2e-4,4e-4;ga=5e-5``).

    Raises:
        UserError: no numbers, an objective that is not compared, or one without a grid.
    """
    if "=" not in text:
        return dict.fromkeys(objectives, _rates(text))
    parts = [part.partition("=") for part in text.split(";") if part.strip()]
    grids = {name.strip(): _rates(rates) for name, _, rates in parts}
    if unknown := [name for name in grids if name not in objectives]:
        raise UserError(f"--learning-rates: {unknown[0]!r} is not compared{nearest(unknown[0], objectives)}")
    if lacking := [name for name in objectives if name not in grids]:
        raise UserError(f"--learning-rates {text}: no learning rate for {', '.join(lacking)}")
    return grids


def _rates(text: str) -> list[float]:
    try:
        return list(dict.fromkeys(float(word) for word in split(text, "--learning-rates")))
    except ValueError:
        raise UserError(f"--learning-rates {text}: expected 1e-4,2e-4 or 'npo=1e-4,2e-4;ga=5e-5'") from None
