"""What follows from a run's settings although nothing is wrong with them, told before the run and not behind it."""

from gru_unlearn.common.notices import tell
from gru_unlearn.reporting.tables import plural
from gru_unlearn.runs.blind_stops import blind_stops
from gru_unlearn.runs.run_preparation import Prepared
from gru_unlearn.runs.run_size import tell_of_few_steps
from gru_unlearn.training import UnlearningConfig

ENDS = {
    "forgotten": "where enough is forgotten",
    "retention": "where too much of the rest is lost",
    "no_progress": "where nothing moves",
}
"""Stop → where it would end a run."""


def forewarn(prepared: Prepared) -> None:
    """Each in one line."""
    tell_of_few_steps(prepared.recipe.config, len(prepared.examples["forget"]))
    tell_of_blind_stops(prepared)
    tell_of_no_guard(prepared)
    tell_of_steps_turned_back(prepared.recipe.config)


def tell_of_blind_stops(prepared: Prepared) -> None:
    """Stops are asked at evaluations: where these are too few, the run goes to its end whatever happens."""
    blind = blind_stops(prepared.recipe, prepared.sets, len(prepared.examples["forget"]))
    if blind is None:
        return
    times = "not once"
    if blind.evaluations:
        times = plural(blind.evaluations, "time")
    words = (
        f"between its first step and its last ({blind.steps}) the run is evaluated {times}, too seldom to end "
        f"{' or '.join(ENDS[why] for why in blind.stops)}: it would go on to its last step"
    )
    if blind.often_enough is not None:
        flags = f"--eval-steps {blind.often_enough}"
        if prepared.recipe.config.eval_strategy != "steps":
            flags = f"--eval-strategy steps {flags}"
        words += f"; pass {flags} or less"
    tell(words)


def tell_of_no_guard(prepared: Prepared) -> None:
    """A method that looks at no retain rows breaks what it likes."""
    config = prepared.recipe.config
    if config.needs_retain_set:
        return
    method = f"objective {config.objective} with rectification {config.rectification}"
    add = "--rectification recommended"
    if "retain" in prepared.sets:
        tell(f"nothing protects what must stay: {method} only measures the retain rows; pass {add} to guard them")
        return
    seen = "nothing measures what is lost"
    if "held_out" in prepared.sets:
        seen = "only the held-out rows say what is lost"
    tell(
        f"nothing protects what must stay: {method} looks at no retain rows, none are given, and {seen}; pass "
        f"--retain ROWS, or --retain made, and {add}"
    )


def tell_of_steps_turned_back(config: UnlearningConfig) -> None:
    """The metric of retention comes after what makes steps robust, and turns them once more."""
    rectification = config.resolved_rectification
    if config.resolved_robust is None or rectification is None or not rectification.metric:
        return
    tell(
        f"robust {config.robust} beside rectification {config.rectification}: measured, relearning brings back only a "
        "tenth less, after nearly twice the steps, and a model of 135 M parameters was not at its mark after 36 steps, "
        "where it needs 28 without (docs/robustness.md); --rectification gru/element/update goes with it"
    )
