"""From settings to a run of TRU of which everything was found and checked, and nothing has been written yet."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from pydantic import JsonValue

from gru_unlearn.common.sequences import in_parts
from gru_unlearn.data import Example
from gru_unlearn.errors import UserError
from gru_unlearn.runs.control_set import names_mark
from gru_unlearn.runs.recipe import make_recipe
from gru_unlearn.runs.run_preparation import Prepared, prepare
from gru_unlearn.runs.tru_options import TruOptions
from gru_unlearn.training.on_its_own import AUTO

DEFAULTS: dict[str, JsonValue] = {"output_dir": "runs/tru", "warmup_steps": 0, "bf16": False}
"""No warm-up: a group of few rows has few steps, and the first step of a warm-up has the rate 0. Computed with in
float32: task vectors are what is left of small steps, and bfloat16 shows few of them to the next one."""

FIXED: dict[str, JsonValue] = {
    "objective": "ga",
    "rectification": "none",
    "robust": "none",
    "forget_candidates": 1,
    "eval_strategy": "no",
    "eval_on_start": False,
    "save_strategy": "no",
    "stop_when_forgotten": False,
    "go_on_to": None,
    "keep_best": None,
    "eval_suite": None,
}
"""Settings of ``gru unlearn`` that have no meaning here: fine-tuning minimises −log p of the answers."""


@dataclass(frozen=True)
class PreparedTru:
    """A run whose every input was found and checked; nothing has been written yet."""

    run: Prepared
    options: TruOptions
    groups: list[list[Example]]
    """the forget examples in contiguous blocks"""


def prepare_tru(settings: Mapping[str, JsonValue], options: TruOptions, *, overwrite: bool = False) -> PreparedTru:
    """Check settings, data, models' folders and output folder.

    Args:
        settings: names and values of a recipe, as for ``gru unlearn``.
        options: groups and α.
        overwrite: discard a run in the output folder.

    Raises:
        UserError: the first thing that cannot work.
    """
    for name in settings:
        if name in FIXED:
            raise UserError(
                f"{name} has no meaning in gru tru: its task models are fine-tuned on −log p of the answers"
            )
    if settings.get("learning_rate") == AUTO:
        raise UserError("learning_rate auto is found for steps that forget, and gru tru has none: pass a number")
    recipe = make_recipe({**DEFAULTS, **settings, **FIXED})
    if not (names_mark(recipe) or recipe.config.stop_at_forget_prob or options.alpha):
        raise UserError(
            "nothing says how much to forget: pass --retain-model, --base-model, --control-rows, --stop-at-forget-prob "
            "P (mean probability of the forget answers to come down to), or --alpha"
        )
    if recipe.dtype == "auto":  # the weights below adapters are changed here, too
        recipe = replace(recipe, dtype="float32")
    own = {f"tru_{name}": value for name, value in asdict(options).items()}
    run = prepare(replace(recipe, settings={**recipe.settings, **own}), overwrite=overwrite)
    return PreparedTru(run, options, contiguous_groups(run.examples["forget"], options.groups))


def contiguous_groups(examples: Sequence[Example], count: int) -> list[list[Example]]:
    """Blocks of neighbouring examples, as equal as can be. Files list rows by author or topic, so blocks keep those
    together.

    Args:
        examples: the forget examples (for plain text, its windows).
        count: G.

    Raises:
        UserError: fewer examples than groups, or a single example.
    """
    rows = len(examples)
    if rows < 2:
        raise UserError("TRU needs at least 2 forget rows, to set one group against the others; got 1")
    if count > rows:
        raise UserError(f"{rows} forget rows cannot make {count} groups: pass --groups {rows} or fewer")
    return list(map(list, in_parts(examples, count)))
