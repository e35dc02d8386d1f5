"""learning_rate auto: what the probe finds, that it leaves no trace, and how the controller keeps the speed."""

import json
import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

import tiny
from gru_unlearn import UnlearningConfig
from gru_unlearn.errors import UserError
from gru_unlearn.runs.recipe import make_recipe
from gru_unlearn.runs.run_learning_rate import with_own_rate
from gru_unlearn.training import last_whole_checkpoint
from gru_unlearn.training.gauge import Reading
from gru_unlearn.training.on_its_own import MOST_STEPS, SAVE_EVERY, WARM_UP
from gru_unlearn.training.rate_controller import (
    EVERY,
    FACTOR,
    MOST_FACTOR,
    PATIENCE,
    STATE_FILE,
    RateState,
    change_for,
    look,
    way_of,
)
from gru_unlearn.training.rate_probe import EFFECT
from gru_unlearn.training.rate_search import LEAST, MOST, rate_of_effect
from gru_unlearn.training.trial_step import on_trial
from gru_unlearn.tuning.tuning_settings import tuning_recipe

LEARNT = {}


def knowing_model():
    """A tiny model that has learnt its rows: made once."""
    if not LEARNT:
        model = tiny.model()
        tuning = tiny.trainer("unused", model, max_steps=1, learning_rate=1e-5, use_cpu=True)
        rows = tuning.forget_examples + tuning.retain_examples
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(150):
            loss = -torch.cat(_logps(model, rows)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        LEARNT.update({name: value.clone() for name, value in model.state_dict().items()})
    model = tiny.model()
    model.load_state_dict(LEARNT)
    return model


def _logps(model, rows):
    found = []
    for row in rows:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])
        logps = model(input_ids=ids).logits[0].log_softmax(-1)
        wanted = labels[1:] != -100
        found.append(logps[:-1][wanted].gather(1, labels[1:][wanted][:, None])[:, 0])
    return found


def auto(folder, model=None, **options):
    defaults = {"learning_rate": "auto", "max_steps": 4, "use_cpu": True, "seed": 3}
    run = tiny.trainer(folder, model or knowing_model(), **(defaults | options))
    run.lines = []
    run.say = run.lines.append
    return run


def as_bits(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


METHODS = [
    {"objective": "npo", "rectification": "recommended"},
    {"objective": "npo", "rectification": "gru"},
    {"objective": "ga", "rectification": "none"},
    {"objective": "simnpo", "rectification": "gru/element/update", "robust": "recommended"},
    {"objective": "graddiff", "rectification": "gru"},
    tiny.seldom({"objective": "wga", "rectification": "pdu"}),
    tiny.seldom({"objective": "rmu", "rectification": "gru"}),
    tiny.seldom({"objective": "idk", "rectification": "gru"}),
    {"objective": "dpo", "rectification": "gru"},
    tiny.seldom({"objective": "undial", "rectification": "gru"}),
    {"objective": "npo", "rectification": "gru", "optim": "sgd"},
    {"objective": "npo", "rectification": "gru", "optim": "adagrad"},
    {
        "objective": "npo",
        "rectification": "gru/model/gradient/memory=2",
        "retain_placement": "after",
        "retain_weight": 0.5,
    },
]


def followed_from(run):
    """What auto settled beside the number."""
    return {name: getattr(run.args, name) for name in ("lr_scheduler_type", "warmup_steps", "forget_candidates")}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: "-".join(map(str, method.values())).replace("/", "_"))
def test_the_number_that_was_chosen_gives_the_same_weights_when_it_is_given(tmp_path, method):
    found = auto(tmp_path / "auto", **method)
    found.train()
    chosen = found.own_rate.state.chosen
    assert found.args.learning_rate == chosen
    assert not found.own_rate.state.moves, "no look within four steps"

    given_ = auto(tmp_path / "given", **method, learning_rate=chosen, **followed_from(found))
    given_.train()
    assert given_.own_rate is None
    assert same(as_bits(found.model), as_bits(given_.model))
    assert found.cost.rows == given_.cost.rows, "a step on trial is none of the run's"


def test_the_step_on_trial_leaves_no_trace(tmp_path):
    run = auto(tmp_path, objective="npo", rectification="recommended")
    seen = {}
    settle = run._settle_rate

    def watched():
        seen["before"] = as_bits(run.model), torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
        settle()
        seen["after"] = as_bits(run.model), torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
        seen["optimizer"] = dict(run.optimizer.state)
        seen["r"] = run.rectifier.state_dict()["retain_direction"]
        seen["grads"] = [p.grad for p in run.model.parameters() if p.grad is not None]

    run._settle_rate = watched
    run.train()
    (weights, torch_state, python, numbers), after = seen["before"], seen["after"]
    assert same(weights, after[0])
    assert torch.equal(torch_state, after[1])
    assert python == after[2]
    assert (numbers == after[3]).all()
    assert not seen["optimizer"]
    assert not seen["r"]
    assert not seen["grads"]


def test_dropout_and_its_random_numbers_are_those_of_a_run_without_a_probe(tmp_path):
    def with_dropout():
        model = knowing_model()
        model.config.attention_dropout = 0.3
        for layer in model.model.layers:
            layer.self_attn.attention_dropout = 0.3
        return model

    found = auto(tmp_path / "auto", with_dropout(), objective="ga", rectification="gru")
    found.train()
    own = found.own_rate.state.chosen
    like = followed_from(found)
    twin = auto(tmp_path / "given", with_dropout(), objective="ga", rectification="gru", learning_rate=own, **like)
    twin.train()
    assert same(as_bits(found.model), as_bits(twin.model))


def test_bfloat16_pairs_find_about_what_float32_finds_and_are_as_they_were(tmp_path):
    wide = auto(tmp_path / "wide", knowing_model().to(torch.bfloat16).float(), rectification="recommended", bf16=False)
    wide.train()
    found = auto(tmp_path / "auto", knowing_model().to(torch.bfloat16), rectification="recommended", bf16=False)
    found.train()
    chosen = found.own_rate.state.chosen
    assert chosen == pytest.approx(wide.own_rate.state.chosen, rel=0.5)
    schedule = {"lr_scheduler_type": found.args.lr_scheduler_type, "warmup_steps": found.args.warmup_steps}
    model = knowing_model().to(torch.bfloat16)
    twin = auto(tmp_path / "given", model, rectification="recommended", bf16=False, learning_rate=chosen, **schedule)
    twin.train()
    assert same(as_bits(found.model), as_bits(twin.model))


def test_adapters_have_a_rate_of_their_own(tmp_path):
    def adapted():
        torch.manual_seed(0)
        return get_peft_model(knowing_model(), LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]))

    found = auto(tmp_path / "auto", adapted(), rectification="recommended")
    found.train()
    chosen = found.own_rate.state.chosen
    assert chosen > 0
    schedule = {"lr_scheduler_type": found.args.lr_scheduler_type, "warmup_steps": found.args.warmup_steps}
    twin = auto(tmp_path / "given", adapted(), rectification="recommended", learning_rate=chosen, **schedule)
    twin.train()
    assert same(as_bits(found.model), as_bits(twin.model))


@pytest.mark.parametrize(
    "schedule", ["cosine", "constant", *map(tiny.seldom, ["linear", "polynomial", "inverse_sqrt"])]
)
def test_a_schedule_that_was_asked_for_is_that_of_the_number(tmp_path, schedule):
    own = {"lr_scheduler_type": schedule, "warmup_steps": 2}
    found = auto(tmp_path / "auto", rectification="gru", **own)
    found.train()
    own |= {"learning_rate": found.own_rate.state.chosen, "forget_candidates": found.args.forget_candidates}
    twin = auto(tmp_path / "given", rectification="gru", **own)
    twin.train()
    assert same(as_bits(found.model), as_bits(twin.model))


def test_the_reach_is_where_it_is_said_to_be(tmp_path):
    run = auto(tmp_path, objective="ga", rectification="none", max_steps=1, forget_candidates=1)  # the same rows again
    run.train()
    state = run.own_rate.state
    with on_trial(run.model, run.optimizer.optimizer, run._pairs) as trial:  # after a step of warm-up, which is short
        trial.take(run.take_first_step)
        trial.go_to(state.reach)
        now = run.own_rate._gauge.read()
    effect = max(now.forgotten_since(state.start), now.harm_since(state.start))
    assert effect == pytest.approx(EFFECT, rel=0.2)


def test_a_direction_that_moves_nothing_is_one_line(tmp_path):
    run = auto(tmp_path, objective="ga", rectification="none")
    run.take_first_step = lambda: None
    with pytest.raises(
        UserError, match=r"learning rate auto: the first step moves no weight.*--learning-rate"
    ) as error:
        run.train()
    assert "\n" not in str(error.value)


def test_rows_that_were_never_known_are_told(tmp_path):
    model = tiny.model()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(3)
    run = auto(tmp_path, model, objective="ga", rectification="none")
    run.train()
    assert run.own_rate.state.start.probability < 0.05
    assert any("hardly knows the forget answers" in line for line in run.lines)


# --- the search ------------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.floats(-6, 1), st.floats(0.7, 3), st.floats(0, 0.99))
def test_the_search_finds_any_power(exponent, power, flat):
    reach, asked = 10**exponent, []

    def effect_at(rate):
        asked.append(rate)
        share = max(0.0, rate / reach - flat) / (1 - flat)
        return EFFECT * share**power

    found = rate_of_effect(effect_at, EFFECT)
    assert found is not None
    assert found.rate == pytest.approx(reach, rel=0.35)
    assert len(asked) <= 25


@settings(max_examples=50, deadline=None)
@given(st.floats(-6, 1), st.sampled_from([math.nan, math.inf]))
def test_the_search_stays_short_of_where_nothing_is_finite(exponent, beyond):
    edge = 10**exponent
    found = rate_of_effect(lambda rate: beyond if rate > edge else 1e-3 * EFFECT, EFFECT)
    assert found is not None
    assert edge / 1.2 < found.rate <= edge


def test_no_effect_anywhere_is_none():
    asked = []
    assert rate_of_effect(lambda rate: asked.append(rate) or 0.0, EFFECT) is None
    assert rate_of_effect(lambda rate: -rate, EFFECT) is None
    assert all(LEAST <= rate <= MOST for rate in asked)


# --- the controller --------------------------------------------------------------------------------------------------


def state(**known):
    start = Reading(-0.05, -0.05, 0.95)
    return RateState(**({"chosen": 1e-4, "rate": 1e-4, "reach": 2e-3, "start": start, "last": start} | known))


def reading(forget, retain=-0.05):
    return Reading(forget, retain, math.exp(forget))


def test_few_rows_have_a_shorter_way():
    assert [way_of(steps) for steps in (1, 2, 3, 40)] == [10, 20, 20, 20]
    last = {"last": reading(math.log(0.8)), "last_step": 5}
    now = reading(math.log(0.65))  # at this pace eight more steps to 0.35
    assert change_for(state(**last), 10, now, enough=0.35) is None
    assert change_for(state(**last, way=10), 10, now, enough=0.35).factor == FACTOR
    fast = reading(math.log(0.8) - 1.5)
    assert "too fast" in change_for(state(**last), 10, fast).why
    assert change_for(state(**last, way=10), 10, fast) is None


def test_a_run_of_few_rows_takes_longer_steps(tmp_path):
    """Of eight forget rows, all or half of them in a step."""
    states = []
    for size in (8, 4):
        run = auto(tmp_path / f"{size}", per_device_train_batch_size=size, rectification="recommended", max_steps=1)
        run.train()
        states.append(run.own_rate.state)
    whole, half = states
    assert (whole.way, half.way) == (10, 20)
    assert whole.chosen == pytest.approx(whole.reach / 10 * 3, rel=0.05)
    assert half.chosen == pytest.approx(half.reach / 20 * 3, rel=0.05)


def test_too_slow_raises_but_not_at_first():
    assert change_for(state(last_step=PATIENCE - 2 * EVERY), PATIENCE - EVERY, reading(-0.06)) is None
    assert change_for(state(last_step=PATIENCE - EVERY), PATIENCE, reading(-0.06)).factor == FACTOR


def test_certain_answers_give_way_slowly_and_that_is_no_reason():
    """From 0.999 to 0.35 in 20 steps at the slowest, evenly in log-odds: the first of them hardly show. What counts is
    how many are still to come, and shortly before the end nothing is raised."""
    for before, then, step, raised in (
        (0.998, 0.9975, 10, True),
        (0.99, 0.97, 10, True),
        (0.99, 0.93, 10, False),
        (0.7, 0.57, 15, True),
        (0.7, 0.5, 15, False),
        (0.5, 0.41, 20, False),
        (0.5, 0.44, 20, True),
        (0.5, 0.49, 20, True),
    ):
        certain = state(start=reading(math.log(0.999)), last=reading(math.log(before)), last_step=step - EVERY)
        change = change_for(certain, step, reading(math.log(then)), enough=0.35)
        assert (change is not None) == raised, (before, then, step)


def test_a_slow_look_after_a_fast_one_raises_nothing():
    """Few rows go down by fits and starts: what counts is the faster of two paces."""
    fell_fast = state(last=reading(math.log(0.915)), last_step=5)
    now = reading(math.log(0.838))
    assert change_for(fell_fast, 10, now, enough=0.35).factor == FACTOR, "the last look alone"
    fell_fast.earlier, fell_fast.earlier_step = reading(math.log(0.995)), 0
    assert change_for(fell_fast, 10, now, enough=0.35) is None


def test_too_fast_and_harm_lower():
    assert "too fast" in change_for(state(), 5, reading(-2.0)).why
    harmed = change_for(state(), 5, reading(-0.3, retain=-0.4))
    assert harmed.factor < 1
    assert "retain loss rose" in harmed.why
    assert change_for(state(), 5, reading(-0.3, retain=-0.06)) is None, "harm that is small beside what is forgotten"


def test_enough_raises_no_more():
    gone = reading(-3.0)
    assert change_for(state(last=gone, last_step=40), 45, gone) is None
    assert change_for(state(last=gone, last_step=40), 45, gone, enough=0.001).factor == FACTOR, "the mark is further"
    half = reading(-0.7)
    assert change_for(state(last=half, last_step=40), 45, half, enough=0.5) is None


@given(st.lists(st.tuples(st.floats(-20, 0), st.floats(-20, 0) | st.none()), max_size=60))
@settings(deadline=None)
def test_moves_are_bounded_and_state_survives_its_file(tmp_path_factory, readings):
    one, folder = state(), tmp_path_factory.mktemp("state")
    for number, (forget, retain) in enumerate(readings, start=1):
        look(one, EVERY * number, reading(forget, retain))
        assert one.chosen / MOST_FACTOR <= one.rate <= one.chosen * MOST_FACTOR
    one.save(folder)
    assert RateState.load(folder) == one


def slow(run, monkeypatch):
    """Every look finds that it goes too slowly."""
    monkeypatch.setattr("gru_unlearn.training.rate_controller._pace", lambda *_: 0.0)
    monkeypatch.setattr("gru_unlearn.training.rate_controller.FAST", 1e5)
    monkeypatch.setattr("gru_unlearn.training.rate_controller.HARM", 100.0)
    monkeypatch.setattr("gru_unlearn.training.rate_controller.PATIENCE", 0)
    monkeypatch.setattr("gru_unlearn.training.rate_controller.LEFT", 0.0)
    return run


@pytest.mark.parametrize("schedule", ["constant_with_warmup", tiny.seldom("linear"), "polynomial"])
def test_a_run_that_was_interrupted_goes_on_to_the_same_bits_with_its_moves(tmp_path, monkeypatch, schedule):
    options = {"objective": "ga", "rectification": "gru", "max_steps": 13, "lr_scheduler_type": schedule}
    options |= {"warmup_steps": 2, "save_strategy": "steps", "save_steps": 6, "logging_steps": 1}
    whole = slow(auto(tmp_path / "whole", **options), monkeypatch)
    whole.train()
    moves = whole.own_rate.state.moves
    assert [move.step for move in moves] == [5, 10]
    assert any("too slow" in line and "Step 5" in line for line in whole.lines)
    rates = {row["step"]: row["learning_rate"] for row in whole.state.log_history if "loss" in row}
    if schedule == "constant_with_warmup":
        assert rates[6] == pytest.approx(FACTOR * rates[5])

    cut = auto(tmp_path / "whole", **options)
    checkpoint = tmp_path / "whole" / "checkpoint-6"
    assert json.loads((checkpoint / STATE_FILE).read_text())["chosen"] == whole.own_rate.state.chosen
    cut.train(resume_from_checkpoint=str(checkpoint))
    assert cut.own_rate.state == whole.own_rate.state
    assert cut.args.learning_rate == whole.args.learning_rate == whole.own_rate.state.chosen
    assert same(as_bits(whole.model), as_bits(cut.model))
    again = {row["step"]: row["learning_rate"] for row in cut.state.log_history if "loss" in row}
    assert again == rates


def test_a_checkpoint_without_the_state_is_one_line(tmp_path):
    options = {"objective": "ga", "rectification": "gru", "save_strategy": "steps", "save_steps": 2}
    auto(tmp_path, **options).train()
    checkpoint = last_whole_checkpoint(tmp_path)
    (checkpoint / STATE_FILE).write_text("{")
    with pytest.raises(UserError, match=STATE_FILE):
        auto(tmp_path, **options).train(resume_from_checkpoint=str(checkpoint))


# --- settings --------------------------------------------------------------------------------------------------------


def test_what_follows_from_auto_is_only_what_nobody_set(tmp_path):
    own = UnlearningConfig(output_dir=str(tmp_path), learning_rate="auto", use_cpu=True)
    assert (own.max_steps, own.warmup_steps, own.lr_scheduler_type) == (MOST_STEPS, WARM_UP, "constant_with_warmup")
    assert (own.rectification, own.save_steps, own.save_total_limit) == ("recommended", SAVE_EVERY, 1)
    half = UnlearningConfig(
        output_dir=str(tmp_path), learning_rate="auto", num_train_epochs=2, lr_scheduler_type="linear", use_cpu=True
    )
    assert (half.max_steps, half.warmup_steps, half.lr_scheduler_type) == (-1, 0.2, "linear")
    number = UnlearningConfig(output_dir=str(tmp_path), learning_rate=1e-5, use_cpu=True)
    assert (number.max_steps, number.warmup_steps, number.lr_scheduler_type) == (-1, 0.2, "linear")
    assert (number.rectification, number.save_steps, number.save_total_limit) == ("gru", 500, None)
    assert not number.on_its_own
    chosen = UnlearningConfig(
        output_dir=str(tmp_path), learning_rate="auto", rectification="gru", save_strategy="no", use_cpu=True
    )
    assert (chosen.rectification, chosen.save_steps) == ("gru", 500)


def test_the_command_takes_auto_but_goes_on_with_what_was_begun(tmp_path):
    assert with_own_rate({"output_dir": str(tmp_path)}, goes_on=True)["learning_rate"] == "auto"
    assert with_own_rate({"learning_rate": "1e-4"}, goes_on=True)["learning_rate"] == "1e-4"
    (tmp_path / "run.json").write_text(json.dumps({"settings": {"objective": "ga"}}))
    assert "learning_rate" not in with_own_rate({"output_dir": str(tmp_path)}, goes_on=True)
    assert with_own_rate({"output_dir": str(tmp_path)}, goes_on=False)["learning_rate"] == "auto"
    (tmp_path / "run.json").write_text(json.dumps({"settings": {"learning_rate": "auto"}}))
    assert with_own_rate({"output_dir": str(tmp_path)}, goes_on=True)["learning_rate"] == "auto"


def test_a_fine_tuning_keeps_its_own_rule():
    recipe = tuning_recipe({"model": "m", "learning_rate": "auto", "use_cpu": True}, "rows")
    assert not recipe.config.on_its_own
    assert "learning_rate" not in recipe.settings


def test_a_word_that_is_no_number_is_refused():
    with pytest.raises(UserError, match="learning_rate: input should be a valid number"):
        make_recipe({"model": "m", "forget": "f", "learning_rate": "fast", "use_cpu": True})


def test_the_command_does_it_by_itself_and_says_so(gru, tmp_path):
    model = knowing_model()
    tiny.save_world(tmp_path)
    model.save_pretrained(tmp_path / "model")
    words = [
        "--model",
        tmp_path / "model",
        "--forget",
        tmp_path / "forget.jsonl",
        "--retain",
        tmp_path / "retain.jsonl",
    ]
    words += ["--objective", "ga", "--use-cpu", "--output-dir", tmp_path / "run", "--per-device-train-batch-size", "2"]
    words += ["--gradient-accumulation-steps", "1", "--report-examples", "0"]

    code, out, err = gru("unlearn", *words, "--dry-run")
    assert code == 0, err
    assert f"at most {MOST_STEPS}" in out
    assert "auto: found by a step on trial" in out

    code, out, err = gru("unlearn", *words, "--max-steps", "7")
    assert code == 0, err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    own = summary["learning_rate"]
    assert summary["settings"]["learning_rate"] == own["chosen"], "what gru attack takes for relearning"
    assert own["why"] in " ".join(out.split())
    assert own["why"].startswith(f"Learning rate {own['chosen']:g}: ")
    assert own["rate"] == (own["moves"][-1]["learning_rate"] if own["moves"] else own["chosen"])

    code, out, err = gru("report", tmp_path / "run")
    assert code == 0, err
    assert "The learning rate" in (tmp_path / "run" / "report.html").read_text()
    assert "--learning-rate auto" in (tmp_path / "run" / "report.html").read_text(), "the command that repeats it"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["tru", "--learning-rate", "auto", "--alpha", "1"], "gru tru has none: pass a number"),
        (
            ["compare", "--learning-rates", "auto", "--retain-model", "builtin:retain"],
            "--learning-rates takes numbers, not auto: a run that finds its rate by itself chooses batches",
        ),
    ],
)
def test_others_refuse_it_in_one_line(gru, tmp_path, command, told):
    tiny.save_world(tmp_path)
    words = ["--model", tmp_path / "model", "--forget", tmp_path / "forget.jsonl", "--output-dir", tmp_path / "run"]
    code, _, err = gru(*command, *words, "--retain", tmp_path / "retain.jsonl")
    assert code == 2
    assert told in " ".join(err.split())
