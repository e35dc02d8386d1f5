"""How far down a run pushes the forget probability: to the mark of enough, or, on its own, somewhat beyond it.

A model right at the mark is cheap to teach again: half of what was removed comes back in a quarter of the steps that a
model needs which never saw the rows. At two thirds of a retain model's it takes two thirds of those steps, and what
must stay loses less than a hundredth more (docs/unlearning.md).
"""

from gru_unlearn.reporting.tables import shown
from gru_unlearn.results.mark import Mark, MarkKind
from gru_unlearn.runs.own_choice import left_to_run
from gru_unlearn.runs.recipe import Recipe
from gru_unlearn.training.aim import aim_of, share_beyond

BEYOND: dict[MarkKind, float] = {"retain_model": 2 / 3, "own_floor": 2 / 3, "base_model": 3 / 4, "control_rows": 1.0}
"""Times the mark, by its kind, where the run chooses by itself how far it goes. A base model's may be a quarter too
low, since a retain model has learnt the manner of such rows; that of control rows mostly is too low."""
ON_TOP = 0.2
"""And no more than this share on top of the way from certainty to the mark: far below it is a trace of its own, of
which a verdict speaks."""


def set_aim(recipe: Recipe, mark: Mark | None) -> None:
    """Put into a run's settings what is enough and how far it goes on from there, where nobody else did.

    A number that somebody gave goes before the mark.
    """
    config = recipe.config
    if not recipe.stop_when_forgotten or mark is None or config.stop_at_forget_prob is not None:
        return
    config.stop_at_forget_prob = mark.value
    if config.go_on_to is None and left_to_run(recipe, "stop_when_forgotten"):
        config.go_on_to = share_beyond(mark.value, BEYOND[mark.kind], ON_TOP)


def aim_line(recipe: Recipe) -> str | None:
    """What a run tells before it begins, where it goes on when enough is forgotten."""
    aim = aim_of(recipe.config)
    if aim is None or aim.goal == aim.enough:
        return None
    return (
        f"From the mark of {shown(aim.enough)} it goes on to {shown(aim.goal)} while that costs little of the rest: "
        "what stands right at the mark is soon learnt again (--go-on-to 1 stops there)."
    )
