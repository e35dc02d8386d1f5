"""How far down a run pushes the forget probability: to the mark of enough, or, on its own, somewhat beyond it.

A model right at the mark is cheap to teach again: half of what was removed comes back in a quarter of the steps that a
model needs which never saw the rows. At two thirds of the mark it takes two thirds of those steps, and what must stay
loses less than a hundredth more (docs/unlearning.md).
"""

from gru_unlearn.reporting.tables import shown
from gru_unlearn.results.mark import Mark
from gru_unlearn.runs.own_choice import left_to_run
from gru_unlearn.runs.recipe import Recipe

BEYOND = 2 / 3
"""Times the mark, where the run chooses by itself how far it goes."""
ON_TOP = 0.2
"""And no more than this share on top of the way from certainty to the mark: far below it is a trace of its own, of
which a verdict speaks."""


def goal_of(recipe: Recipe, mark: Mark | None) -> float | None:
    """Forget probability at or below which the run stops; None: at none.

    Control rows are an estimate, and mostly one that is too low: there the run goes to the mark and no further.
    """
    if not recipe.stop_when_forgotten or mark is None:
        return recipe.config.stop_at_forget_prob
    if not left_to_run(recipe, "stop_when_forgotten") or mark.kind == "control_rows":
        return mark.value
    return max(BEYOND * mark.value, mark.value - ON_TOP * (1 - mark.value))


def goal_line(goal: float | None, mark: Mark | None) -> str | None:
    """What a run tells of its goal before it begins, where that is not the mark."""
    if goal is None or mark is None or goal == mark.value:
        return None
    return (
        f"It goes on to {shown(goal)}, below the mark of {shown(mark.value)}, as long as the rest is kept: what stands "
        "right at the mark is soon learnt again (--stop-when-forgotten stops there)."
    )
