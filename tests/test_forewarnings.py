"""What is told before a run of settings that work and mean less than they seem to."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from gru_unlearn.common.notices import Notice
from gru_unlearn.runs.blind_stops import blind_stops
from gru_unlearn.runs.forewarnings import forewarn
from gru_unlearn.runs.recipe import make_recipe
from gru_unlearn.runs.run_preparation import prepare


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return tiny.save_world(tmp_path_factory.mktemp("forewarnings") / "world")


def recipe_of(world, **settings):
    own = {"model": str(world / "model"), "forget": str(world / "forget.jsonl"), "output_dir": str(world / "out"),
           "use_cpu": True, "report_examples": 0}  # fmt: skip
    return make_recipe(own | settings)


def told(world, **settings):
    """The lines before a run."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        forewarn(prepare(recipe_of(world, **settings)))
    return [str(one.message) for one in found if issubclass(one.category, Notice)]


def of(lines, beginning):
    return [line for line in lines if line.startswith(beginning)]


# --- stops that cannot act -------------------------------------------------------------------------------------------

AUTO = {"learning_rate": "auto", "rectification": "recommended"}
BLIND = "between its first step and its last"


def test_evaluations_that_come_too_seldom_for_the_stops_are_told(world):
    retain = str(world / "retain.jsonl")
    (line,) = of(told(world, **AUTO, retain=retain, eval_steps=500), BLIND)
    assert line == (
        "between its first step and its last (150) the run is evaluated not once, too seldom to end where enough is "
        "forgotten or where too much of the rest is lost or where nothing moves: it would go on to its last step; pass "
        "--eval-steps 21 or less"
    )
    assert not of(told(world, **AUTO, retain=retain, eval_steps=21), BLIND)
    (line,) = of(told(world, **AUTO, retain=retain, eval_steps=22), BLIND)
    assert "evaluated 6 times, too seldom to end where nothing moves: " in line


def test_a_suite_that_spreads_evaluations_is_told_alike(world):
    retain = str(world / "retain.jsonl")
    lines = told(world, **AUTO, retain=retain, eval_suite="own", per_device_train_batch_size=1,
                 gradient_accumulation_steps=1)  # fmt: skip
    assert of(lines, BLIND)


def test_what_the_run_itself_chose_is_not_worth_a_line(world):
    assert not of(told(world, **AUTO, retain=str(world / "retain.jsonl")), BLIND)
    assert not of(told(world, **AUTO, retain=str(world / "retain.jsonl"), max_steps=5), BLIND)


def test_so_is_a_run_whose_rate_was_set(world):
    settings = {"learning_rate": 1e-4, "max_steps": 40, "stop_below_kept": 0.9, "retain": str(world / "retain.jsonl")}
    steps = {"eval_strategy": "steps", "eval_steps": 25}
    (line,) = of(told(world, **settings, **steps), BLIND)
    assert "evaluated 1 time, too seldom to end where too much of the rest is lost: " in line
    assert line.endswith("pass --eval-steps 19 or less")
    assert not of(told(world, **settings, **steps | {"eval_steps": 19}), BLIND)
    assert not of(told(world, **settings | {"stop_below_kept": 0}, **steps), BLIND)


@given(every=st.integers(1, 200), steps=st.integers(2, 160), delay=st.integers(0, 60))
def test_the_number_that_is_named_is_often_enough(world, every, steps, delay):
    retain = {"retain": str(world / "retain.jsonl")}
    found = blind_stops(_course(world, every, steps, delay, retain), ["forget", "retain"], 4)
    if found is None or found.often_enough is None:
        return
    assert found.often_enough < every or delay
    assert blind_stops(_course(world, found.often_enough, steps, 0, retain), ["forget", "retain"], 4) is None


def _course(world, every, steps, delay, retain):
    return recipe_of(world, learning_rate=1e-4, eval_strategy="steps", eval_steps=every, max_steps=steps,
                     eval_delay=delay, stop_at_forget_prob=0.1, stop_below_kept=0.9, stop_without_progress=3,
                     **retain)  # fmt: skip


# --- nothing that guards ---------------------------------------------------------------------------------------------

NO_GUARD = "nothing protects what must stay"


@pytest.mark.parametrize("objective", ["ga", "npo", "wga"])
def test_a_run_that_nothing_guards_says_so(world, objective):
    method = {"learning_rate": 1e-5, "objective": objective, "rectification": "none"}
    (line,) = of(told(world, **method), NO_GUARD)
    assert "looks at no retain rows, none are given, and nothing measures what is lost; pass --retain ROWS" in line
    (line,) = of(told(world, **method, held_out=str(world / "retain.jsonl")), NO_GUARD)
    assert "only the held-out rows say what is lost" in line
    (line,) = of(told(world, **method, retain=str(world / "retain.jsonl")), NO_GUARD)
    assert "only measures the retain rows; pass --rectification recommended" in line


def test_a_run_that_retain_rows_guard_does_not(world):
    retain = str(world / "retain.jsonl")
    assert not of(told(world, learning_rate=1e-5, rectification="gru", retain=retain), NO_GUARD)
    assert not of(told(world, learning_rate=1e-5, rectification="none", retain_weight=1.0, retain=retain), NO_GUARD)


@pytest.mark.parametrize("robust", ["recommended", "spectral=0.1"])
def test_robust_steps_that_the_metric_turns_again_are_told(world, robust):
    retain = {"retain": str(world / "retain.jsonl"), "robust": robust}
    (line,) = of(told(world, rectification="recommended", **retain), "robust")
    assert line.startswith(
        f"robust {robust} beside rectification recommended: measured, relearning brings back only a tenth less"
    )
    assert not of(told(world, rectification="gru/element/update", **retain), "robust")
    assert not of(told(world, rectification="recommended", retain=retain["retain"]), "robust")


def test_the_command_says_it_before_it_trains(gru, world):
    places = "--model", world / "model", "--forget", world / "forget.jsonl", "--output-dir", world / "cli"
    code, out, err = gru("unlearn", *places, "--objective", "ga", "--rectification", "none", "--use-cpu", "--dry-run")
    assert code == 0, err
    assert NO_GUARD in out + err
