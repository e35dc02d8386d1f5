"""Which model a run keeps: the best by the rule that was set; on its own, one that is good enough; else the last."""

from collections.abc import Callable

from gru_unlearn.runs.best_rule import parse_rule
from gru_unlearn.runs.keep_best import BestKeeper, KeepBest, KeepGoodEnough
from gru_unlearn.runs.own_choice import left_to_run
from gru_unlearn.runs.rule_names import FORGET_TARGET
from gru_unlearn.runs.run_preparation import Prepared
from gru_unlearn.training.aim import Aim, aim_of


def best_keeper(prepared: Prepared, mark: float | None, save: Callable[[str], None]) -> BestKeeper | None:
    """What keeps the best model; None: the last one is saved.

    Args:
        prepared: the run.
        mark: forget probability at or below which enough is forgotten, if there is one.
        save: writes the model as it stands into a folder.
    """
    recipe, output = prepared.recipe, prepared.output
    constants = {} if mark is None else {FORGET_TARGET: mark}
    if recipe.keep_best is not None:
        return KeepBest(parse_rule(recipe.keep_best), output, constants, save)
    if not left_to_run(recipe, "keep_best") or recipe.config.eval_strategy == "no":
        return None
    aim = aim_of(recipe.config)
    if aim is None and mark is not None:
        aim = Aim(mark, mark)
    return KeepGoodEnough(aim, recipe.config.resolved_stop_below_kept, output, constants, save)
