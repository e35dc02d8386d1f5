"""A recipe beside the manner of its model: a run that starts from another run's model asks as that one did."""

import dataclasses
from pathlib import Path

from pydantic import JsonValue

from gru_unlearn.common.notices import tell
from gru_unlearn.models.manners import asked_by_run, settings_for
from gru_unlearn.models.model_settings import ASKING, ModelSettings
from gru_unlearn.runs.recipe import Recipe


def recipe_settings(recipe: Recipe, folder: Path) -> ModelSettings:
    """How a recipe's models are loaded and asked: as set, else as the run did that wrote the model in ``folder``.

    Raises:
        UserError: the file beside the model is damaged.
    """
    return settings_for(folder, explicit_settings(recipe))


def explicit_settings(recipe: Recipe) -> dict[str, JsonValue]:
    """The settings in force, without those that decide how a model is asked and were left to their defaults."""
    defaults = ModelSettings().asked
    given = {}
    for name, value in recipe.in_force.items():
        if name not in ASKING or name in recipe.settings or value != defaults[name]:
            given[name] = value
    return given


def asking_alike(recipe: Recipe, settings: ModelSettings, folder: Path) -> Recipe:
    """The recipe, whose settings in force say how its model is asked, where that comes from the run that wrote it."""
    set_already = explicit_settings(recipe)
    taken = {}
    for name, value in (asked_by_run(folder) or {}).items():
        if name not in set_already and value != ModelSettings().asked[name]:
            taken[name] = getattr(settings, name)
    if not taken:
        return recipe
    words = ", ".join(f"{name} {value!r}" for name, value in taken.items())
    tell(f"--model {recipe.model}: asked as the run did that wrote it: {words}")
    own = {one.name for one in dataclasses.fields(recipe)}
    for name in taken.keys() - own:
        setattr(recipe.config, name, taken[name])
    return dataclasses.replace(recipe, **{name: value for name, value in taken.items() if name in own})
