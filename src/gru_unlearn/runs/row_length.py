"""The length limit of a run on its own: what its longest answer needs, as far as the model was made for it."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from gru_unlearn.common.modules import text_config
from gru_unlearn.common.notices import tell
from gru_unlearn.data import CutAnswers
from gru_unlearn.models.subject import Subject
from gru_unlearn.runs.own_choice import left_to_run
from gru_unlearn.runs.recipe import Recipe

T = TypeVar("T")


def with_room_for_rows(recipe: Recipe, models: Iterable[Subject], tokenize: Callable[[], T]) -> T:
    """What ``tokenize`` gives, with as long rows as it meets, where nobody has set a limit.

    Raises:
        UserError: an answer is cut, and the limit is set, or the model's own.
    """
    subjects = list(models)
    before = recipe.config.max_length
    while True:
        try:
            examples = tokenize()
        except CutAnswers as cut:
            limit = _longer(recipe, subjects[0], cut.longest)
            if limit is None:
                raise
            _set_limit(recipe, subjects, limit)
        else:
            break
    if recipe.config.max_length != before:
        tell(f"max_length is {recipe.config.max_length}, not {before}: so long is the longest row")
    return examples


def _longer(recipe: Recipe, model: Subject, needed: int) -> int | None:
    """A longer limit; None where there is none to be had."""
    if not left_to_run(recipe, "max_length"):
        return None
    made_for = getattr(text_config(model.empty()), "max_position_embeddings", None)
    limit = min(needed, made_for or needed)
    return limit if limit > recipe.config.max_length else None


def _set_limit(recipe: Recipe, models: Iterable[Subject], limit: int) -> None:
    recipe.config.max_length = limit
    for model in models:
        model.settings = replace(model.settings, max_length=limit)
        vars(model).pop("encoder", None)
