"""What a run decides by itself: where its learning rate is ``auto``, whatever nobody has set."""

from gru_unlearn.runs.recipe import Recipe

CHECKPOINTS = ("save_strategy", "save_steps", "save_total_limit")
"""Who sets one of these wants checkpoints for more than going on after an interruption."""


def left_to_run(recipe: Recipe, name: str) -> bool:
    """Whether a setting is the run's own to choose."""
    return recipe.config.on_its_own and name not in recipe.settings


def evaluates(recipe: Recipe) -> bool:
    """Whether there will be evaluations along the run."""
    return recipe.config.eval_strategy != "no" or left_to_run(recipe, "eval_strategy")
