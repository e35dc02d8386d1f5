"""From settings to a fine-tuning of which everything was found and checked, and nothing has been written yet."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

from pydantic import JsonValue

from gru_unlearn.data import fingerprint
from gru_unlearn.errors import UserError
from gru_unlearn.models.loading import parameter_count
from gru_unlearn.results.run_folder import RunFolder
from gru_unlearn.runs.model_checks import check_models
from gru_unlearn.runs.own_choice import CHECKPOINTS
from gru_unlearn.runs.recipe import Recipe
from gru_unlearn.runs.recipe_options import with_recipe
from gru_unlearn.runs.run_preparation import Prepared, find_models
from gru_unlearn.training import to_examples
from gru_unlearn.training.run_length import require_a_batch
from gru_unlearn.tuning.rows_to_learn import Rows, read_sets
from gru_unlearn.tuning.tuning_options import TuningOptions
from gru_unlearn.tuning.tuning_settings import PLAIN, learning_rate_for, tuning_recipe


@dataclass(frozen=True)
class PreparedTuning:
    """A fine-tuning whose every input was found and checked; nothing has been written yet."""

    run: Prepared
    """its sets are ``train`` and, where they are given, ``without`` and ``held_out``"""
    options: TuningOptions
    rows: dict[str, Rows]
    """the same sets, with where they were read"""
    parameters: int
    """of the base"""
    keeps_checkpoints: bool
    """whether somebody asked for some, and not just for a run that can go on"""


def prepare_tuning(
    settings: Mapping[str, JsonValue],
    options: TuningOptions,
    *,
    overwrite: bool = False,
    on_any_machine: bool = False,
) -> PreparedTuning:
    """Load and check settings, rows, tokenizer, the base's folder and the output folder, cheapest first.

    Args:
        settings: names and values of a recipe, as for ``gru unlearn``.
        options: rows, and where to stop.
        overwrite: discard a run in the output folder.
        on_any_machine: do not ask whether this machine has the device that the settings need (for dry runs).

    Raises:
        UserError: the first thing that cannot work.
    """
    options, settings = with_recipe(options, settings)
    recipe = tuning_recipe(settings, "+".join(options.train) or "train", on_any_machine=on_any_machine)
    _check_options(options, recipe)
    rows = read_sets(options, recipe.held_out, allow_overlap=recipe.allow_overlap)
    folder = RunFolder(Path(recipe.config.output_dir or "."))
    recipe, models, computed_in = find_models(recipe, None if overwrite else folder.started_with())
    base = models["model"]
    examples = {name: to_examples(its.records, name, base.encoder) for name, its in rows.items()}
    require_a_batch(recipe.config, len(examples["train"]), "training")
    check_models(recipe, models, examples)
    parameters = parameter_count(base.folder, recipe.trust_remote_code)
    if "learning_rate" not in recipe.settings:
        recipe.config.learning_rate = learning_rate_for(parameters, adapters=recipe.use_peft)

    given = {name: value for name, value in recipe.settings.items() if name not in ("output_dir", "forget", *PLAIN)}
    identity = {
        "command": "finetune",
        "settings": given | asdict(options),
        "model": base.sha256,
        **{name: fingerprint(its.records) for name, its in rows.items()},
        **computed_in,
    }
    sources = chain.from_iterable(its.sources for its in rows.values())
    claim = folder.claim(identity, overwrite=overwrite, inputs=(base.folder, *sources))
    sets = {name: its.records for name, its in rows.items()}
    run = Prepared(recipe, base, None, sets, examples, None, claim)
    keeps_checkpoints = any(name in settings for name in CHECKPOINTS)
    return PreparedTuning(run, options, rows, parameters, keeps_checkpoints)


def _check_options(options: TuningOptions, recipe: Recipe) -> None:
    if options.stop_at_prob is not None and recipe.config.eval_strategy == "no":
        raise UserError("--stop-at-prob needs evaluations along the run: leave --eval-strategy at epoch, or set steps")
    if not options.merge:
        return
    if not recipe.use_peft:
        raise UserError(
            "--merge is about adapters: add --use-peft, or leave it out (all weights are saved whole anyway)"
        )
    if recipe.load_in_4bit:
        raise UserError(
            "--merge: weights of 4 bits cannot hold what adapters learnt: leave out --load-in-4bit or --merge"
        )
    if recipe.config.world_size > 1:
        raise UserError("--merge works in one process: leave it out, adapters are models too")
