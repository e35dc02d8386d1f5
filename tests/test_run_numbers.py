"""Numbers in a run's summary are those of the model that it saved, and marks are measured as the run is."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from gru_unlearn.evaluation.matched import retention_at_matched_forgetting
from test_cli import FAST, inputs

EVERY_STEP = ["--eval-strategy", "steps", "--eval-steps", "1"]
FEW_ROWS = ["--eval-max-rows", "2"]
BFLOAT16 = ["--bf16", "true"]


@pytest.fixture
def place(tmp_path):
    """A model, a forget and a retain file."""
    return tiny.save_world(tmp_path)


def run(gru, place, *flags, out="run", **changes):
    code, _, err = gru("unlearn", *inputs(place, **changes, **{"output-dir": place / out}), *FAST, *flags)
    assert code == 0, err
    return json.loads((place / out / "summary.json").read_text())


@pytest.mark.parametrize("flags", [[], FEW_ROWS, BFLOAT16], ids=["plain", "few rows", "bfloat16"])
def test_the_mark_is_what_the_retain_model_would_give_along_the_run(gru, place, flags):
    tiny.save(place / "other", seed=3)
    marked = run(gru, place, *flags, "--retain-model", place / "other")
    itself = run(gru, place, *flags, out="of the retain model", model=place / "other")
    assert marked["results"]["forget_target"] == itself["trajectory"][0]["forget_prob"]


@pytest.mark.parametrize(
    "flags",
    [
        [],
        [*EVERY_STEP, "--keep-best", "maximize: forget_prob"],
        ["--eval-strategy", "steps", "--eval-steps", "4", "--keep-best", "minimize: forget_prob"],
        ["--use-peft", "--lora-r", "2", "--lora-target-modules", "q_proj,v_proj"],
    ],
    ids=["last", "first is best", "best", "adapters"],
)
def test_results_are_those_of_the_saved_model(gru, place, flags):
    results = run(gru, place, *flags)["results"]
    sources = ["--forget", place / "forget.jsonl", "--retain", place / "retain.jsonl"]
    code, _, err = gru(
        "evaluate", "--suite", "own", "--model", place / "run" / "model", *sources, "--out", place / "seen"
    )
    assert code == 0, err
    seen = json.loads((place / "seen" / "summary.json").read_text())["metrics"]
    assert results["forget_prob"] == pytest.approx(seen["forget_Q_A_Prob"], abs=1e-5)
    assert results["retain_prob"] == pytest.approx(seen["retain_Q_A_Prob"], abs=1e-5)


# --- retention at matched forgetting ---------------------------------------------------------------------------------

probabilities = st.floats(0, 1, allow_subnormal=False) | st.just(math.nan) | st.just(math.inf) | st.none()
points = st.fixed_dictionaries({"forget_prob": probabilities, "retain_prob": probabilities})


def test_nothing_to_keep_has_no_retention():
    run = [{"forget_prob": 0.9, "retain_prob": 0.0}, {"forget_prob": 0.1, "retain_prob": 0.0}]
    assert retention_at_matched_forgetting(run, 0.5) is None
    assert retention_at_matched_forgetting(run, 0.95) is None


def test_points_without_numbers_are_passed_over():
    start, end = {"forget_prob": 0.8, "retain_prob": 1.0}, {"forget_prob": 0.2, "retain_prob": 0.4}
    lost = [{"forget_prob": math.nan, "retain_prob": 0.1}, {"forget_prob": 0.1, "retain_prob": math.nan}]
    assert retention_at_matched_forgetting([start, *lost, end], 0.5) == pytest.approx(0.7)


@given(st.lists(points, min_size=1), st.floats(0, 1))
def test_retention_is_a_finite_number_or_none(run, target):
    found = retention_at_matched_forgetting(run, target)
    assert found is None or (math.isfinite(found) and found >= 0)
