"""When a run stops before its last step, why, and which model it keeps: rules alone, then whole runs at a tiny size."""

import dataclasses
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

import tiny
from gru_unlearn.data import Encoder, to_record
from gru_unlearn.errors import UserError
from gru_unlearn.models.weights import hash_weights
from gru_unlearn.reporting.tables import shown
from gru_unlearn.results.mark import Mark
from gru_unlearn.runs.keep_best import KeepGoodEnough
from gru_unlearn.runs.recipe import make_recipe
from gru_unlearn.runs.run_aim import aim_line, set_aim
from gru_unlearn.runs.run_results import why_stopped
from gru_unlearn.training import UnlearningConfig, answer_logps, own_rate
from gru_unlearn.training.aim import Aim, aim_of
from gru_unlearn.training.course import WORD_FOR_WORD, Evaluated, course_of, least_kept, steps_to
from gru_unlearn.training.rate_controller import RateState
from gru_unlearn.training.stops import Rules, StopCallback, is_near, why_to_stop

RULES = Rules(aim=Aim(0.1, 0.1), limit=0.95, patience=3, warm=0, learning_rate=1e-4, objective="npo")
SHARES = st.floats(0.01, 1.2)
COURSES = st.lists(st.tuples(st.floats(0.001, 1), SHARES), min_size=1, max_size=12)


def course(*points, every=5):
    """(forget probability, share of the held-out probability that is kept) at each evaluation."""
    return [Evaluated(number * every, forget, {"held_out": 0.8 * kept}) for number, (forget, kept) in enumerate(points)]


def first_stop(points, rules=RULES):
    for end in range(1, len(points) + 1):
        if found := why_to_stop(points[:end], rules):
            return found
    return None


# --- rules -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "why", "step"),
    [
        ([(0.9, 1), (0.5, 1), (0.1, 0.97), (0.01, 0.9)], "forgotten", 10),
        ([(0.9, 1), (0.5, 0.89)], "retention", 5),
        ([(0.9, 1), (0.5, 0.94), (0.3, 0.93)], "retention", 10),
        ([(0.9, 1), (0.5, 0.94), (0.3, 0.96), (0.2, 0.94), (0.09, 0.96)], "forgotten", 20),
        ([(0.9, 1), (0.05, 0.94), (0.04, 0.94)], "retention", 10),
        ([(0.9, 1), (0.9, 1), (0.895, 1), (0.91, 1), (0.1, 1)], "no_progress", 15),
        ([(0.9, 1), (0.8, 1), (0.7, 1), (0.6, 1)], None, None),
        ([(0.09, 1), (0.05, 1)], "forgotten", 0),
    ],
    ids=["enough", "much lost", "twice below", "recovers", "gone with the rest", "nothing moves", "on its way", "at 0"],
)
def test_a_run_stops_for_a_reason(points, why, step):
    found = first_stop(course(*points))
    assert (found and found.why, found and found.step) == (why, step)


@given(COURSES)
def test_what_it_stops_for_is_so(points):
    points = course(*points)
    found = first_stop(points)
    if found is None:
        return
    now = points[[point.step for point in points].index(found.step)]
    share = now.kept["held_out"] / points[0].kept["held_out"]
    if found.why == "forgotten":
        assert now.forget <= RULES.aim.goal
        assert share >= RULES.limit
    if found.why == "retention":
        assert share < RULES.limit
    if found.why == "no_progress":
        before = [point.forget for point in points if point.step <= now.step - RULES.patience * 5]
        assert now.forget > 0.98 * min(before)


def test_without_rules_nothing_stops_a_run():
    assert first_stop(course((0.9, 1), (0.9, 0.1), (1e-9, 1e-9)), Rules(None, 0.0, 0, 0, 1e-4, "npo")) is None


def test_the_rows_of_which_least_is_left_decide():
    points = [Evaluated(0, 0.9, {"held_out": 0.8, "retain": 0.9}), Evaluated(5, 0.5, {"held_out": 0.79, "retain": 0.5})]
    found = why_to_stop(points, RULES)
    assert found.sentence.startswith("retain rows have kept 0.556 of their probability, below the limit of 0.95; try")
    assert "--learning-rate 3e-05" in found.sentence


@pytest.mark.parametrize(
    ("forget", "said", "told"),
    [
        (0.09, None, "the forget probability is 0.090, at or below the goal of 0.100"),
        (
            2e-5,
            0.0,
            "enough is forgotten: the forget probability is 2e-05, at or below the goal of 0.100, and nothing",
        ),
        (
            0.05,
            0.025,
            "the forget probability is 0.050, at or below the goal of 0.100, though 2.5% of the rows still",
        ),
    ],
)
def test_enough_is_not_said_of_answers_that_still_come(forget, said, told):
    points = [Evaluated(0, 0.9, {}), Evaluated(5, forget, {}, said)]
    assert why_to_stop(points, RULES).sentence.startswith(told)


@pytest.mark.parametrize(("said", "stops"), [(0.0, True), (0.1, False), (None, False)])
def test_before_the_first_step_there_may_be_nothing_to_forget(said, stops):
    rules = dataclasses.replace(RULES, aim=Aim(0.1, 0.05))
    found = why_to_stop([Evaluated(0, 0.08, {}, said)], rules)
    assert bool(found) == stops
    assert found is None or "nothing to forget: before the first step" in found.sentence
    assert why_to_stop([Evaluated(0, 0.9, {}), Evaluated(5, 0.08, {}, said)], rules) is None


def test_what_nobody_measured_before_is_no_limit():
    late = [Evaluated(5, 0.9, {"retain": 0.8}), Evaluated(10, 0.5, {"retain": 0.1})]
    assert least_kept(late) is None
    assert why_to_stop(late, RULES) is None
    assert why_to_stop([Evaluated(0, 0.9, {}), Evaluated(5, 0.5, {})], RULES) is None


def test_no_progress_is_not_told_of_the_warm_up():
    warming = course(*[(0.9, 1)] * 6)
    slow = Rules(None, 0.95, 3, 11, 1e-4, "npo")
    assert [bool(why_to_stop(warming[:end], slow)) for end in range(1, 7)] == [False] * 6
    assert why_to_stop(course(*[(0.9, 1)] * 7), slow).step == 30


def test_of_two_evaluations_at_a_step_the_later_one_counts():
    first, second = {"step": 0, "eval_forget_prob": 0.9, "eval_retain_prob": 0.5}, {"step": 4, "eval_forget_prob": 0.5}
    log = [first, {"step": 3, "loss": 1.0}, second, second | {"eval_retain_prob": 0.4}]
    assert course_of(log) == [Evaluated(0, 0.9, {"retain": 0.5}), Evaluated(4, 0.5, {"retain": 0.4})]


@given(pace=st.floats(0.01, 0.4), start=st.floats(0.5, 1), every=st.integers(2, 20), goal=st.floats(0.01, 0.4))
def test_a_steady_run_is_looked_at_where_it_reaches_the_goal(pace, start, every, goal):
    """Forgetting by equal factors, it is never more than a quarter of an interval, and a step, beyond the goal."""

    def at(step):
        return start * math.exp(-pace * step)

    points, step = [Evaluated(0, start, {}), Evaluated(every, at(every), {})], every
    while points[-1].forget > goal:
        step += 1
        if step % every == 0 or is_near(points, Aim(goal, goal), step, every):
            points.append(Evaluated(step, at(step), {}))
    reached = math.log(start / goal) / pace
    if len(points) > 2:
        assert points[-1].step <= math.ceil(reached + 1e-9) + math.ceil(every / 4)


def test_a_run_looks_where_enough_is_forgotten_and_where_the_goal_is():
    """Odds halved every 4 steps: at 0.25 after 14.3 of them, at 0.15 after 18."""
    aim, points = Aim(0.25, 0.15), [Evaluated(0, 0.8, {})]
    for step in range(1, 21):
        if step % 8 == 0 or is_near(points, aim, step, 8):
            odds = 4 / 2 ** (step / 4)
            points.append(Evaluated(step, odds / (1 + odds), {}))
    assert [point.step for point in points] == [0, 8, 15, 16, 19]
    assert not is_near([], aim, 3, 8)


def test_the_pace_says_when_the_goal_is_reached():
    assert steps_to([Evaluated(0, 0.8, {}), Evaluated(5, 0.2, {})], 0.2 / 3.2) == pytest.approx(2.38, abs=0.01)
    assert steps_to([Evaluated(0, 8e-4, {}), Evaluated(5, 4e-4, {})], 1e-4) == pytest.approx(10, abs=0.01)
    assert steps_to([Evaluated(0, 0.95, {}), Evaluated(6, 0.31, {})], 0.17) == pytest.approx(1.3, abs=0.1), "not 3.2"
    assert steps_to([Evaluated(0, 0.4, {}), Evaluated(5, 0.4, {})], 0.1) is None
    assert steps_to([Evaluated(0, 0.4, {})], 0.1) is None
    assert steps_to([Evaluated(0, 0.9999999, {}), Evaluated(5, 0.9999995, {})], 0.1) is None, "too certain to tell"


# --- how far it goes -------------------------------------------------------------------------------------------------


def on_its_own(**settings):
    """As the run has it when it begins: the stop is its own choice unless it was set."""
    recipe = make_recipe({"model": "m", "forget": "f", "learning_rate": "auto", "use_cpu": True} | settings)
    return dataclasses.replace(
        recipe, stop_when_forgotten=recipe.stop_when_forgotten or "stop_at_forget_prob" not in settings
    )


@pytest.mark.parametrize(
    ("kind", "mark", "settings", "goal"),
    [
        ("retain_model", 0.3, {}, 0.2),
        ("base_model", 0.3, {}, 0.225),
        ("own_floor", 0.003, {}, 0.002),
        ("retain_model", 0.8, {}, 0.76),  # no more than a fifth of the way to it on top
        ("control_rows", 0.3, {}, 0.3),
        ("retain_model", 0.3, {"stop_when_forgotten": True}, 0.3),
        ("retain_model", 0.3, {"stop_at_forget_prob": 0.1}, 0.1),
        ("retain_model", 0.3, {"stop_at_forget_prob": 0.1, "stop_when_forgotten": True}, 0.1),
        ("retain_model", 0.3, {"go_on_to": 0.5}, 0.15),
        ("retain_model", 0.3, {"go_on_to": 1.0}, 0.3),
        ("control_rows", 0.3, {"go_on_to": 0.9}, 0.27),
        ("retain_model", 0.3, {"stop_at_forget_prob": 0.1, "go_on_to": 0.5}, 0.05),
    ],
)
def test_on_its_own_a_run_goes_somewhat_beyond_the_mark(kind, mark, settings, goal):
    mark = Mark(kind=kind, value=mark)
    recipe = on_its_own(**settings)
    set_aim(recipe, mark)
    aim = aim_of(recipe.config)
    assert aim.goal == pytest.approx(goal)
    assert aim.enough == settings.get("stop_at_forget_prob", mark.value)
    told = aim_line(recipe)
    assert (told is None) == (aim.goal == aim.enough)
    assert told is None or f"goes on to {shown(goal)}" in told


def test_with_a_rate_of_its_own_a_run_stops_at_the_mark():
    recipe = make_recipe({"model": "m", "forget": "f", "learning_rate": 1e-4, "use_cpu": True})
    mark = Mark(kind="retain_model", value=0.3)
    set_aim(recipe, mark)
    assert aim_of(recipe.config) is None
    recipe = dataclasses.replace(recipe, stop_when_forgotten=True)
    set_aim(recipe, mark)
    assert aim_of(recipe.config) == Aim(0.3, 0.3)


# --- the model that is kept ------------------------------------------------------------------------------------------


def kept_of(points, folder, aim=RULES.aim):
    """The step whose model a run on its own keeps."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    keep = KeepGoodEnough(aim, 0.95, folder, {}, os.mkdir)
    log = []
    for point in points:
        log.append({"step": point.step, "eval_forget_prob": point.forget, "eval_held_out_prob": point.kept["held_out"]})
        if point.said is not None:
            log[-1][f"eval_{WORD_FOR_WORD}"] = point.said
        state = type("State", (), {"global_step": point.step, "log_history": log})
        keep.on_evaluate(None, state, None, metrics={"eval_forget_prob": point.forget})
    return keep.best.step


@pytest.mark.parametrize(
    ("points", "step"),
    [
        ([(0.9, 1), (0.5, 0.98), (0.09, 0.96)], 10),
        ([(0.9, 1), (0.09, 0.96), (0.08, 0.99), (0.01, 0.97)], 10),
        ([(0.9, 1), (0.5, 0.97), (0.01, 0.6)], 5),
        ([(0.9, 1), (0.01, 0.1)], 0),
    ],
    ids=["enough at last", "most kept of enough", "last good one", "the one before"],
)
def test_the_model_that_is_kept_is_good_enough(tmp_path, points, step):
    assert kept_of(course(*points), tmp_path / "run") == step


def test_a_model_that_says_none_of_the_rows_goes_before_one_that_kept_more(tmp_path):
    """However far below the mark the other is; and of those that say some, the one that is far enough below."""
    points = course((0.9, 1), (0.11, 0.999), (0.06, 0.99), (0.05, 0.98))
    said = [point._replace(said=share) for point, share in zip(points, (1.0, 0.05, 0.05, 0.0), strict=True)]
    assert kept_of(said, tmp_path / "none") == 15
    assert kept_of(said[:-1], tmp_path / "some") == 10


BEYOND = Aim(0.12, 0.08)


@pytest.mark.parametrize(
    ("points", "step", "ends"),
    [
        ([(0.9, 1), (0.12, 0.99), (0.1, 0.985), (0.08, 0.98)], 15, 15),
        ([(0.9, 1), (0.11, 0.99), (0.1, 0.987), (0.095, 0.975), (0.09, 0.97)], 10, 20),
        ([(0.9, 1), (0.11, 0.99), (0.11, 0.98), (0.1, 0.992), (0.11, 0.98)], 15, None),
        ([(0.9, 1), (0.11, 0.96), (0.1, 0.94), (0.1, 0.945)], 5, 15),
        ([(0.9, 1), (0.13, 0.99), (0.13, 0.98), (0.13, 0.98)], 5, None),
    ],
    ids=["cheap", "ever dearer", "recovers in time", "beyond the limit", "not yet enough"],
)
def test_beyond_enough_a_run_goes_on_while_that_is_worth_it(tmp_path, monkeypatch, points, step, ends):
    """The whole way may cost a fiftieth of the rest; the model that is kept is the best by what it kept and forgot."""
    monkeypatch.setattr("gru_unlearn.training.stops.AS_LONG", math.inf)
    rules = dataclasses.replace(RULES, aim=BEYOND, patience=0)
    points = course(*points)
    found = first_stop(points, rules)
    assert (found and found.step) == ends
    assert found is None or found.why == "forgotten"
    assert step == ends or found is None or f"at step {step} the forget probability was" in found.sentence
    assert kept_of(points, tmp_path / "run", BEYOND) == step


def test_beyond_enough_a_run_takes_no_longer_than_the_way_until_then():
    """However little it costs: a little less at each evaluation, nothing lost."""
    rules = dataclasses.replace(RULES, aim=BEYOND, patience=0)
    points = course((0.9, 1), (0.5, 1), (0.11, 1), *((0.11 - 0.001 * step, 1) for step in range(1, 20)))
    found = first_stop(points, rules)
    assert (found.why, found.step) == ("forgotten", 20)
    assert "at step 10 the forget probability was 0.110" in found.sentence
    assert "takes longer than the way until then" in found.sentence
    begins_there = course(*((0.11 - 0.001 * step, 1) for step in range(9)))
    assert first_stop(begins_there, rules).step == 10, "what the target is at its start is no way"


def test_beyond_enough_a_run_goes_on_while_rows_come_word_for_word(tmp_path):
    """However much that costs within the limit and however long it takes: down to half of the mark."""
    rules = dataclasses.replace(RULES, aim=BEYOND, patience=0)
    points = course(*((0.9, 1), (0.11, 1), (0.1, 0.99), (0.09, 0.98), (0.075, 0.97), (0.065, 0.96), (0.055, 0.955)))
    assert first_stop(points, rules).step == 10
    still_said = [point._replace(said=0.1) for point in points]
    found = first_stop(still_said, rules)
    assert (found.why, found.step) == ("forgotten", 30)
    assert "though 10.0% of the rows still come word for word: so far below" in found.sentence
    assert kept_of(still_said, tmp_path / "to the end", BEYOND) == 30
    silent = [*still_said[:4], points[4]._replace(said=0.0), *still_said[5:]]
    assert first_stop(silent, rules).step == 20
    assert kept_of(silent, tmp_path / "in time", BEYOND) == 20


def test_of_models_that_say_rows_the_one_that_says_fewer_is_kept(tmp_path):
    """Unless what must stay lost more; what it has gained counts for nothing."""
    points = course((0.9, 1), (0.11, 1.2), (0.1, 0.98), (0.1, 0.96))
    said = [point._replace(said=share) for point, share in zip(points, (1.0, 0.1, 0.05, 0.04), strict=True)]
    assert kept_of(said, tmp_path / "run", BEYOND) == 10


@pytest.mark.parametrize(
    ("enough", "goal", "least"),
    [
        (0.2, 0.15, 0.1),  # half
        (0.36, 0.27, 0.36 - 0.22 * 0.64),  # a fifth and more of the way to the mark on top
        (0.2, 0.08, 0.08),  # someone wants it lower
        (0.2, 0.2, 0.17),  # no further than to the mark
        (0.0, 0.0, 0.0),
    ],
)
def test_how_far_a_run_goes_for_single_rows(enough, goal, least):
    aim = Aim(enough, goal)
    assert aim.least == pytest.approx(least)
    below, above = (Evaluated(5, place, {}, said=0.1) for place in (0.99 * least, 1.01 * least + 1e-9))
    assert aim.is_reached(below)
    assert not aim.is_reached(above)
    assert aim.is_reached(below._replace(said=0.0))
    assert not aim.has_enough(above)


# --- whole runs ------------------------------------------------------------------------------------------------------


def taught(rows, folder):
    """A tiny model that knows these rows, saved."""
    model, tokenizer = tiny.model(), tiny.tokenizer()
    examples = Encoder(tokenizer).encode_all([to_record(row, "") for row in rows], "rows")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    batch = transformers.DataCollatorForSeq2Seq(tokenizer)(
        [{"input_ids": row["input_ids"], "labels": row["labels"]} for row in examples]
    )
    for _ in range(250):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model that knows all rows, one that knows all but the forget rows, and the rows."""
    folder = tmp_path_factory.mktemp("world")
    sets = {"forget": tiny.rows(6), "retain": tiny.rows(12, start=6), "held_out": tiny.rows(12, start=18)}
    for name, rows in sets.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    taught([*sets["forget"], *sets["retain"], *sets["held_out"]], folder / "model")
    taught([*sets["retain"], *sets["held_out"]], folder / "retain_model")
    return folder


@pytest.fixture(scope="module")
def text_world(tmp_path_factory):
    """The same of plain texts."""
    folder, sets = tmp_path_factory.mktemp("texts"), {}
    for name, rows in (("forget", tiny.rows(6)), ("retain", tiny.rows(12, start=6)), ("held_out", tiny.rows(12, 18))):
        sets[name] = [{"text": f"{row['question']} {row['answer']}"} for row in rows]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sets[name]))
    taught([*sets["forget"], *sets["retain"], *sets["held_out"]], folder / "model")
    taught([*sets["retain"], *sets["held_out"]], folder / "retain_model")
    return folder


def flags(world, out, *more):
    named = [f"--{name.replace('_', '-')}={world / name}.jsonl" for name in ("forget", "retain", "held_out")]
    named += [f"--model={world / 'model'}", f"--output-dir={out}", "--report-examples=0", "--use-cpu"]
    return ["unlearn", *named, "--learning-rate=auto", *more]


def to_the_mark(world):
    """So small a model keeps little of the rest on its way."""
    return (
        f"--retain-model={world / 'retain_model'}", "--rectification=gru/element/update", "--max-steps=300",
        "--stop-below-kept=0.3", "--go-on-to=0.95",
    )  # fmt: skip


@pytest.fixture
def at_rate(monkeypatch):
    """Runs on their own take this rate, whatever they would find."""

    def set_rate(rate):
        def found(trial, gauge, step, way, share):
            now = gauge.read()
            return RateState(chosen=rate, rate=rate, reach=20 * rate, start=now, last=now)

        monkeypatch.setattr(own_rate, "find_rate", found)
        monkeypatch.setattr(own_rate, "look", lambda *_: None)

    return set_rate


def summary_of(out):
    return json.loads((out / "summary.json").read_text())


def probability(folder, file):
    """Mean answer probability of rows under a saved model."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    records = [to_record(json.loads(line), "") for line in file.read_text().splitlines()]
    examples = Encoder(tokenizer).encode_all(records, "rows")
    return answer_logps(
        model, examples, batch_size=8, pad_token_id=tokenizer.pad_token_id, device=torch.device("cpu")
    ).mean_probability


def test_a_run_stops_at_the_mark_and_keeps_that_model(gru, world, at_rate, tmp_path):
    at_rate(1e-3)
    code, out, err = gru(*flags(world, tmp_path / "out", *to_the_mark(world)))
    assert code == 0, err
    summary = summary_of(tmp_path / "out")
    results, stopped = summary["results"], summary["results"]["stopped"]
    assert stopped["why"] == "forgotten", stopped
    assert stopped["step"] == summary["steps"] == summary["best"]["step"]
    assert results["forget_prob"] <= 0.95 * results["forget_target"]
    assert results["held_out_prob"] >= 0.3 * summary["trajectory"][0]["held_out_prob"]
    assert stopped["sentence"] in " ".join(out.split())
    assert probability(tmp_path / "out" / "model", world / "forget.jsonl") == pytest.approx(results["forget_prob"])
    assert not list((tmp_path / "out").glob("best*/"))
    assert gru("report", tmp_path / "out")[0] == 0
    assert stopped["sentence"].partition(":")[0] in (tmp_path / "out" / "report.html").read_text()


def test_a_model_that_never_knew_the_rows_stays_as_it_is(gru, world, tmp_path):
    model = world / "retain_model"
    code, out, err = gru(*flags(world, tmp_path / "out", f"--model={model}", "--stop-at-forget-prob=0.9"))
    assert code == 0, err
    summary = summary_of(tmp_path / "out")
    assert (summary["steps"], summary["best"]["step"], summary["results"]["stopped"]["step"]) == (0, 0, 0)
    assert "there is nothing to forget: before the first step" in " ".join(out.split())
    assert summary["saved_sha256"] == hash_weights(model)


def test_of_plain_texts_stop_and_verdict_agree(gru, text_world, at_rate, tmp_path):
    """What is continued word for word keeps a run going, and is what its verdict counts."""
    at_rate(1e-3)
    given = [word for word in flags(text_world, tmp_path / "out", *to_the_mark(text_world)) if "examples" not in word]
    code, _, err = gru(*given, "--go-on-to=1")  # whether going on pays turns on the last bits of so small a model
    assert code == 0, err
    summary = summary_of(tmp_path / "out")
    stopped, verdict = summary["results"]["stopped"], summary["verdict"]
    assert stopped["why"] == "forgotten"
    assert stopped["sentence"].endswith("and nothing comes word for word")
    assert verdict["forgotten"] == "yes"
    assert "The model continues none of 6 texts word for word, and their probability went from" in verdict["sentence"]
    assert "answers not counted" not in verdict["remarks"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert verdict["sentence"] in page
    for row in json.loads((tmp_path / "out" / "examples.json").read_text())["sets"]["forget"]["rows"]:
        assert f"{row['question']} {row['continuation']}" == row["answer"]
        assert f'<p class="question">{row["question"]}</p>' in page


def test_a_run_that_breaks_the_rest_stops_and_keeps_its_last_good_model(gru, world, at_rate, tmp_path):
    at_rate(3e-2)
    code, out, err = gru(
        *flags(world, tmp_path / "out", "--objective=ga", "--rectification=none", "--max-steps=60", "--warmup-steps=0")
    )
    assert code == 0, err
    summary = summary_of(tmp_path / "out")
    assert summary["results"]["stopped"]["why"] == "retention"
    assert summary["steps"] < 60
    before, best = summary["trajectory"][0], summary["best"]["step"]
    for name in ("held_out", "retain"):
        assert summary["results"][f"{name}_prob"] >= 0.95 * before[f"{name}_prob"]
    assert best < summary["steps"]
    assert "below the limit of 0.95; try more retain rows, or another limit (--stop-below-kept)" in " ".join(
        out.split()
    )
    kept = probability(tmp_path / "out" / "model", world / "held_out.jsonl")
    assert kept == pytest.approx(summary["results"]["held_out_prob"])


def test_a_run_that_does_not_move_stops_and_says_what_to_do(gru, world, at_rate, tmp_path):
    at_rate(1e-9)
    code, out, err = gru(*flags(world, tmp_path / "out", "--max-steps=200", "--warmup-steps=0", "--eval-steps=5"))
    assert code == 0, err
    summary = summary_of(tmp_path / "out")
    assert summary["results"]["stopped"]["why"] == "no_progress"
    assert 25 <= summary["steps"] < 100
    assert not list((tmp_path / "out").glob("checkpoint-*")), "of a finished run nobody goes on from there"
    assert "no progress: over the last 6 evaluations" in " ".join(out.split())
    assert "try another --objective (ga pulls on where the pull of others fades)" in " ".join(out.split())


@pytest.mark.parametrize(
    ("before", "after", "goal", "told"),
    [
        (0.9, 0.8, 0.2, "is 0.800, above the goal of 0.200: more --max-steps, or a higher --learning-rate"),
        (9e-5, 7e-5, 4e-5, "is 7e-05, above the goal of 4e-05: the model hardly knew the answers before"),
    ],
)
def test_what_was_never_known_needs_no_more_steps(before, after, goal, told):
    log = [{"step": step, "eval_forget_prob": value} for step, value in ((0, before), (4, after))]
    trainer = SimpleNamespace(
        stops=StopCallback(),
        state=SimpleNamespace(global_step=4, log_history=log),
        args=SimpleNamespace(stop_at_forget_prob=goal),
    )
    assert told in why_stopped(trainer).sentence


def test_a_run_that_comes_to_its_last_step_says_so(gru, world, at_rate, tmp_path):
    at_rate(1e-4)
    code, _, err = gru(*flags(world, tmp_path / "out", "--max-steps=3"))
    assert code == 0, err
    stopped = summary_of(tmp_path / "out")["results"]["stopped"]
    assert (stopped["why"], stopped["step"]) == ("last_step", 3)
    assert stopped["sentence"].startswith("all 3 steps are done, and the forget probability is 0.")
    short = flags(world, tmp_path / "short", f"--retain-model={world / 'retain_model'}", "--max-steps=3")
    code, out, err = gru(*short)
    assert code == 0, err
    said = " ".join(out.split())
    assert re.search(
        r"Ended at step 3, saved is step \d: all 3 steps are done, and the forget probability is 0\.\d+, above", said
    )
    assert "At most 3 steps: 0:00:0" in said


def test_what_a_person_sets_goes_before(gru, world, at_rate, tmp_path):
    at_rate(3e-2)
    choices = ("--objective=ga", "--rectification=none", "--max-steps=20", "--warmup-steps=0", "--stop-below-kept=0",
               "--stop-without-progress=0", "--stop-when-forgotten=false",
               "--keep-best=maximize: step_of_no_metric")  # fmt: skip
    code, _, err = gru(*flags(world, tmp_path / "out", *choices))
    assert (code, "no metric 'step_of_no_metric'" in err) == (2, True)
    code, _, err = gru(*flags(world, tmp_path / "out", *choices[:-1], "--keep-best=maximize: forget_prob"))
    assert code == 0, err
    summary = summary_of(tmp_path / "out")
    assert (summary["steps"], summary["best"]["step"]) == (20, 0)


def test_with_a_rate_of_ones_own_the_stops_are_there_to_be_set(gru, world, tmp_path):
    """And nothing else of a run on its own."""
    more = ["--learning-rate=3e-2", "--objective=ga", "--rectification=none", "--max-steps=40", "--warmup-steps=0"]
    assert gru(*flags(world, tmp_path / "plain", *more))[0] == 0
    plain = summary_of(tmp_path / "plain")
    assert (plain["steps"], len(plain["trajectory"]), plain.get("best")) == (40, 2, None)
    assert "stopped" not in plain["results"]
    code, _, err = gru(*flags(world, tmp_path / "idle", *more, "--stop-below-kept=0.9"))
    assert (code, "--stop-below-kept needs evaluations along the run" in err) == (2, True)
    along = ("--stop-below-kept=0.9", "--eval-strategy=steps", "--eval-steps=2")
    assert gru(*flags(world, tmp_path / "out", *more, *along))[0] == 0
    assert summary_of(tmp_path / "out")["results"]["stopped"]["why"] == "retention"


def test_a_limit_needs_the_model_before():
    with pytest.raises(UserError, match="stop_below_kept compares with the model before the first step"):
        UnlearningConfig(stop_below_kept=0.9, eval_on_start=False, use_cpu=True)
    own = UnlearningConfig(learning_rate="auto", eval_on_start=False, use_cpu=True)
    assert (own.resolved_stop_below_kept, own.resolved_stop_without_progress) == (0, 6)


# --- interruptions ---------------------------------------------------------------------------------------------------


class Cut(BaseException):
    """As if the process was killed."""


def steady(folder):
    """All of a run that must not depend on interruptions."""
    summary = summary_of(folder)
    trajectory = [{key: value for key, value in point.items() if key != "seconds"} for point in summary["trajectory"]]
    return (folder / "model" / "model.safetensors").read_bytes(), trajectory, summary["best"], summary["results"]


@pytest.mark.parametrize("end", [tiny.seldom("forgotten"), "retention"])
def test_a_run_cut_short_anywhere_comes_to_the_same_end(gru, world, at_rate, tmp_path, monkeypatch, end):
    more = {
        "forgotten": (*to_the_mark(world), "--save-steps=1"),
        "retention": ("--objective=ga", "--rectification=none", "--max-steps=60", "--warmup-steps=0", "--save-steps=1"),
    }[end]
    at_rate({"forgotten": 1e-3, "retention": 3e-2}[end])
    assert gru(*flags(world, tmp_path / "whole", *more))[0] == 0
    whole = steady(tmp_path / "whole")
    assert whole[3]["stopped"]["why"] == end
    steps = whole[3]["stopped"]["step"]

    save = transformers.Trainer._save_checkpoint
    for cut_at in (steps // 2, steps):  # the second: between the stop and the summary

        def cut(self, *args, cut_at=cut_at, **kwargs):
            save(self, *args, **kwargs)
            if self.state.global_step >= cut_at:
                raise Cut

        with monkeypatch.context() as patch:
            patch.setattr(transformers.Trainer, "_save_checkpoint", cut)
            with pytest.raises(Cut):
                gru(*flags(world, tmp_path / "cut", *more))
    code, out, err = gru(*flags(world, tmp_path / "cut", *more))
    assert (code, "Continuing the interrupted run" in out) == (0, True), err
    assert steady(tmp_path / "cut") == whole


@pytest.mark.campaign
def test_killed_and_interrupted_a_run_on_its_own_goes_on_to_the_same_bits(gru, world, tmp_path):
    more = (f"--retain-model={world / 'retain_model'}", "--max-steps=120", "--save-steps=2", "--save-total-limit=2")
    for how, after in ((signal.SIGINT, "checkpoint-4"), (signal.SIGKILL, "checkpoint-8")):
        process = subprocess.Popen(
            [sys.executable, "-m", "gru_unlearn", *flags(world, tmp_path / "cut", *more)],
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - background jobs ignore it
        )
        deadline = time.monotonic() + 120
        while process.poll() is None and not (tmp_path / "cut" / after).exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        process.send_signal(how)
        process.communicate(timeout=120)
        assert not (tmp_path / "cut" / "summary.json").exists()
    assert gru(*flags(world, tmp_path / "cut", *more))[0] == 0
    assert gru(*flags(world, tmp_path / "whole", *more))[0] == 0
    assert steady(tmp_path / "cut") == steady(tmp_path / "whole")
