"""Settings that were set and would do nothing: each acts only beside another one, which the refusal names."""

from collections.abc import Callable, Collection
from typing import NamedTuple

from gru_unlearn.common.options import flag_of
from gru_unlearn.errors import UserError
from gru_unlearn.objectives import OBJECTIVES, inputs_of
from gru_unlearn.runs.own_choice import evaluates
from gru_unlearn.runs.recipe import Recipe
from gru_unlearn.runs.retain_rows import chooses_rows, makes_rows
from gru_unlearn.training.inputs import FROM_ALTERNATIVES


class Acts(NamedTuple):
    """When settings act."""

    settings: tuple[str, ...]
    when: Callable[[Recipe], bool]
    needs: str
    """the same in words, after "needs" """


def _asks_for_other_answers(recipe: Recipe) -> bool:
    return bool(inputs_of(OBJECTIVES[recipe.config.objective]) & FROM_ALTERNATIVES)


def _takes_retain_weight(recipe: Recipe) -> bool:
    """Whether the retain weight acts: on the trainer's retain term, or on the gradient that a rule adds."""
    config = recipe.config
    return config.weighs_rule or config.retain_term_weight == config.resolved_retain_weight


def _stops_when_forgotten(recipe: Recipe) -> bool:
    config = recipe.config
    return recipe.stop_when_forgotten or config.stop_at_forget_prob is not None or config.on_its_own


ACTS = (
    Acts(
        ("retain_loss", "retain_batch_size"),
        lambda recipe: recipe.config.needs_retain_set,
        "a method that looks at retain rows: add --rectification or --retain-weight",
    ),
    Acts(
        ("made_rows",),
        makes_rows,
        "rows that the model makes: add --retain made",
    ),
    Acts(
        ("retain_choice",),
        lambda recipe: recipe.retain_choice == "all" or chooses_rows(recipe),
        "retain rows to choose from: add --retain ROWS or --train-rows ROWS",
    ),
    Acts(
        ("new_gradient_weight", "retain_direction_dtype", "retain_direction_device"),
        lambda recipe: recipe.config.rectification != "none",
        "a rectification, which keeps the retain gradient: add --rectification",
    ),
    Acts(
        ("retain_every",),
        lambda recipe: recipe.config.rectification != "none" or recipe.config.retain_every == 1,
        "a rectification, which keeps the retain gradient between its passes: add --rectification",
    ),
    Acts(
        ("retain_placement",),
        lambda recipe: recipe.config.rectification != "none" and recipe.config.retain_term_weight > 0,
        "a rectification with a retain term beside it: add --retain-weight and gru, cosine-clip or gu",
    ),
    Acts(
        ("retain_weight",),
        _takes_retain_weight,
        "a retain term, or a rule that takes its weight: ngdiff and hamu weigh both sides themselves, and "
        "/weight=NUMBER in --rectification goes before",
    ),
    Acts(
        ("stop_when_forgotten", "stop_at_forget_prob", "stop_below_kept", "stop_without_progress"),
        evaluates,
        "evaluations along the run: add --eval-strategy steps --eval-steps N",
    ),
    Acts(
        ("go_on_to",),
        _stops_when_forgotten,
        "a run that stops where enough is forgotten: add --stop-when-forgotten or --stop-at-forget-prob",
    ),
    Acts(
        ("control_rows",),
        lambda recipe: not recipe.retain_model,
        "a run without --retain-model (its mark is the surer one)",
    ),
    Acts(
        ("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules"),
        lambda recipe: recipe.use_peft,
        "adapters: add --use-peft",
    ),
    Acts(
        ("eval_data",),
        lambda recipe: recipe.eval_suite in ("builtin", "tofu", "muse"),
        "a suite that reads data of its own: add --eval-suite builtin, tofu or muse",
    ),
    Acts(
        ("eval_forget_split", "eval_unseen_split"),
        lambda recipe: recipe.eval_suite == "tofu",
        "the suite that has splits: add --eval-suite tofu",
    ),
    Acts(
        ("hidden_module",),
        lambda recipe: recipe.config.objective == "rmu",  # and retain loss rmu, which goes with no other objective
        "an objective that compares activations: add --objective rmu",
    ),
    Acts(
        ("alternative_field",),
        _asks_for_other_answers,
        "an objective that asks for another answer: add --objective dpo, altpo or idk",
    ),
)
"""What the project's own settings need beside them."""


def idle_settings(recipe: Recipe) -> dict[str, str]:
    """Settings that were set, not to off or none, and do nothing, with what they need."""
    idle: dict[str, str] = {}
    for acts in ACTS:
        if acts.when(recipe):
            continue
        found = [name for name in acts.settings if _is_on(recipe.settings.get(name))]
        idle |= dict.fromkeys(found, acts.needs)
    return idle


def _is_on(value: object) -> bool:
    return value is not None and value is not False


def refuse_idle(recipe: Recipe, known: Collection[str] = ()) -> None:
    """Whether all that was set acts; ``known``: names that were idle before and may stay so.

    Raises:
        UserError: a setting does nothing; what it needs is named.
    """
    for name, needs in idle_settings(recipe).items():
        if name not in known:
            raise UserError(f"{flag_of(name)} needs {needs}, or leave it out")
