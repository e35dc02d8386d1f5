"""From what ``gru compare`` is asked to the matrix of its runs."""

from collections.abc import Mapping

from gru_unlearn.comparison.comparison_request import ComparisonRequest, parse_learning_rates, parse_seeds, split
from gru_unlearn.comparison.comparison_suite import suite_request
from gru_unlearn.comparison.matrix import Matrix, builtin_settings
from gru_unlearn.errors import UserError
from gru_unlearn.runs.recipe_file import read_recipe
from gru_unlearn.training import UnlearningConfig

NEEDED = ("model", "forget", "retain", "held_out", "retain_model")
"""Where neither a recipe nor one of these is given, the built-in benchmark stands for all of them."""

BUILTIN_RATES = "1e-4,3e-4"

PLURAL = {"objective": "--objectives", "rectification": "--rectifications", "seed": "--seeds"}


def choose_matrix(request: ComparisonRequest, recipe: str | None, flags: Mapping[str, str]) -> Matrix:
    """What is compared: settings that all runs share, from recipe and flags, and what differs between them.

    Raises:
        UserError: the first thing that cannot be compared.
    """
    for name, plural in PLURAL.items():
        if name in flags:
            raise UserError(f"--{name} is for one run: gru compare takes {plural}")
    settings, default_rates = {}, str(UnlearningConfig.learning_rate)
    if recipe is not None:
        settings = read_recipe(recipe)
    elif flags.keys().isdisjoint(NEEDED):
        settings, default_rates = builtin_settings(), BUILTIN_RATES
    settings = {**settings, **flags}
    objectives = request.objectives or str(settings.get("objective", UnlearningConfig.objective))
    compared = split(objectives, "--objectives")
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
