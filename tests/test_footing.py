"""What a run on its own stands on: rows a step, batches that fit, the evaluation schedule, and the length of rows."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

import tiny
from gru_unlearn import UnlearningTrainer
from gru_unlearn.capacity import free_room
from gru_unlearn.common.notices import Notice
from gru_unlearn.runs import step_memory
from gru_unlearn.runs.evaluation_schedule import FEWEST, LATE, SHARE, SUITE_ROW, schedule_for
from gru_unlearn.runs.footing import rows_a_step
from gru_unlearn.runs.recipe import make_recipe
from gru_unlearn.runs.run_preparation import prepare
from gru_unlearn.runs.step_memory import _cuts
from gru_unlearn.training.run_cost import READ

# --- rows a step -----------------------------------------------------------------------------------------------------


@given(st.integers(1, 5000))
def test_a_step_has_all_of_few_rows_and_an_even_part_of_many(rows):
    found = rows_a_step(rows)
    assert found == rows if rows <= 16 else 8 <= found <= 16
    steps = -(-rows // found)
    assert steps * found - rows < steps, "no step is short by more than a row"


@given(rows=st.integers(1, 64), at_once=st.integers(1, 64))
def test_rows_that_do_not_fit_at_once_pass_in_even_parts(rows, at_once):
    recipe = make_recipe({"model": "m", "forget": "f", "learning_rate": "auto", "use_cpu": True})
    batch, passes = next(cut for cut in _cuts(recipe, rows) if cut[0] <= at_once)
    assert rows <= batch * passes < rows + passes


# --- evaluations -----------------------------------------------------------------------------------------------------


@given(
    sets=st.lists(st.integers(1, 4000), min_size=1, max_size=4),
    rows_of_step=st.integers(2, 400),
    suite_rows=st.sampled_from([0, 50, 600]),
)
def test_evaluations_take_a_tenth_of_the_work_and_come_soon(sets, rows_of_step, suite_rows):
    found = schedule_for(sets, rows_of_step, suite_rows=suite_rows)
    work = READ * sum(min(size, found.rows) for size in sets) + SUITE_ROW * suite_rows
    assert found.rows >= FEWEST
    assert found.steps <= LATE or suite_rows
    if found.steps < LATE or suite_rows:
        assert work <= SHARE * found.steps * rows_of_step * (1 + 1e-9)
    if found.rows > FEWEST:
        assert found.steps <= 6


def test_what_was_set_of_the_schedule_stays():
    assert schedule_for([40, 400, 100], 80, rows=None) == (None, LATE)
    assert schedule_for([40, 400, 100], 80, rows=10, steps=3) == (10, 3)
    assert schedule_for([40, 400, 100], 80, steps=20).rows > schedule_for([40, 400, 100], 80).rows


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path):
    return tiny.save_world(tmp_path / "world")


def settings(world, **more):
    places = {name: str(world / f"{name}.jsonl") for name in ("forget", "retain")}
    own = {"model": str(world / "model"), "output_dir": str(world / "out"), "use_cpu": True, "learning_rate": "auto",
           "rectification": "recommended", "report_examples": 0}  # fmt: skip
    return {**places, **own, **more}


@pytest.fixture
def with_room(monkeypatch, world):
    """A recipe's footing where so many MiB are free."""

    def prepared(free, **more):
        monkeypatch.setattr(step_memory, "free_bytes", lambda device: int(free * 2**20))
        return prepare(make_recipe(settings(world, **more)))

    return prepared


def stands_on(prepared):
    recipe = prepared.recipe
    config = recipe.config
    return (config.per_device_train_batch_size, config.gradient_accumulation_steps, config.activation_checkpointing,
            recipe.use_peft)  # fmt: skip


def test_the_footing_is_the_first_that_fits(with_room):
    """From plenty down to nothing: fewer rows at once, then checkpointing, then adapters, each at fewer rows too."""
    found = []
    for free in [100, *(step / 100 for step in range(60, 0, -1))]:
        way = stands_on(with_room(free))
        if way not in found:
            found.append(way)
    assert found[0] == (6, 1, False, False)
    assert all(batch * passes == 6 for batch, passes, *_ in found)
    order = [(adapters, checkpointing, -batch) for batch, _, checkpointing, adapters in found]
    assert order == sorted(order)
    assert {way[2:] for way in found} >= {(False, False), (True, True)}


def test_thrift_is_told_in_one_line(with_room):
    with pytest.warns(Notice, match=r"needs [\d.]+ GiB, calculated, and [\d.]+ GiB are free"):
        assert stands_on(with_room(0.001))[3]


def test_what_a_person_sets_stays(with_room):
    assert stands_on(with_room(100, per_device_train_batch_size=2)) == (2, 3, False, False)
    assert stands_on(with_room(100, gradient_accumulation_steps=2)) == (3, 2, False, False)
    assert stands_on(with_room(100, per_device_train_batch_size=2, gradient_accumulation_steps=5))[:2] == (2, 5)
    assert not stands_on(with_room(0.001, use_peft=False))[3]
    assert stands_on(with_room(100, gradient_checkpointing=True))[2]
    config = with_room(100, eval_strategy="epoch").recipe.config
    assert (config.eval_strategy, config.eval_max_rows) == ("epoch", 400)
    config = with_room(100, eval_steps=3, eval_max_rows=7).recipe.config
    assert (config.eval_strategy, config.eval_steps, config.eval_max_rows) == ("steps", 3, 7)


def test_four_retain_rows_go_with_each_forget_row(with_room):
    assert with_room(100).recipe.config.resolved_retain_batch_size == 24


def test_with_a_rate_of_ones_own_all_stays_as_it_was(with_room):
    prepared = with_room(0.001, learning_rate=1e-4)
    config = prepared.recipe.config
    assert stands_on(prepared) == (4, 8, False, False)
    assert (config.eval_strategy, config.eval_max_rows, prepared.recipe.keep_best) == ("no", 400, None)
    assert "footing" not in prepared.claim.identity


def test_a_run_goes_on_as_it_began_whatever_is_free(gru, with_room, world, monkeypatch):
    """Adapters chosen for want of memory stay, where there is plenty later; and a run with them comes to its end."""
    arguments = [
        f"--{name.replace('_', '-')}={value}"
        for name, value in settings(world, max_steps=4, rectification="gru").items()
    ]
    monkeypatch.setattr(step_memory, "free_bytes", lambda device: 1000)
    code, _, err = gru("unlearn", *arguments)
    assert code == 0, err
    assert (world / "out" / "model" / "adapter_config.json").is_file()
    (world / "out" / "summary.json").unlink()
    monkeypatch.setattr(step_memory, "free_bytes", lambda device: 2**40)
    code, out, err = gru("unlearn", *arguments)
    assert (code, "Continuing the interrupted run" in out) == (0, True), err
    assert json.loads((world / "out" / "summary.json").read_text())["settings"]["use_peft"]


def test_checkpointing_that_was_chosen_is_at_work(gru, with_room, world, monkeypatch):
    seen = []
    step = UnlearningTrainer.training_step

    def look(self, model, *args, **kwargs):
        seen.append(any(getattr(module, "gradient_checkpointing", False) for module in model.modules()))
        return step(self, model, *args, **kwargs)

    monkeypatch.setattr(UnlearningTrainer, "training_step", look)
    for free, at_work in ((2**40, False), (1000, True)):
        monkeypatch.setattr(step_memory, "free_bytes", lambda device, free=free: free)
        given = settings(world, max_steps=1, use_peft="false", output_dir=str(world / str(free)))
        code, _, err = gru("unlearn", *(f"--{name.replace('_', '-')}={value}" for name, value in given.items()))
        assert code == 0, err
        assert set(seen) == {at_work}
        seen.clear()


def test_a_container_may_use_what_its_group_leaves(tmp_path, monkeypatch):
    monkeypatch.setattr(free_room, "CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    device = make_recipe({"model": "m", "forget": "f", "use_cpu": True}).config.device
    plenty = free_room.free_bytes(device)
    (tmp_path / "memory.max").write_text("5000\n")
    assert free_room.free_bytes(device) == 4000 < plenty
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert free_room.free_bytes(device) == 1000


# --- settings that wait for evaluations ------------------------------------------------------------------------------


def test_what_needs_evaluations_has_them(world):
    """They are there as soon as the run is on its own, so nothing is refused for want of them."""
    recipe = make_recipe(settings(world, stop_at_forget_prob=0.1, keep_best="minimize: forget_prob"))
    assert prepare(recipe, idle_settings=False).recipe.config.eval_strategy == "steps"


def test_a_run_without_evaluations_is_told_what_that_means(world):
    with pytest.warns(UserWarning, match="eval_strategy no: without evaluations the run goes to its last step"):
        prepared = prepare(make_recipe(settings(world, eval_strategy="no")))
    assert not prepared.recipe.stop_when_forgotten


# --- length of rows --------------------------------------------------------------------------------------------------


@pytest.fixture
def long_rows(world):
    """Rows of 700 tokens, and a model with positions for 1000."""
    config = LlamaConfig(
        vocab_size=48, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=1000, pad_token_id=0, eos_token_id=1, bos_token_id=2,
        tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(world / "model")

    def write(words):
        row = {"question": "where is Ada ?", "answer": " ".join(["blue"] * words)}
        (world / "retain.jsonl").write_text(json.dumps(row) + "\n")

    write(690)
    return write


def test_rows_may_be_as_long_as_they_are(gru, world, long_rows):
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in settings(world).items()]
    code, out, err = gru("unlearn", *arguments, "--dry-run")
    assert code == 0, err
    said = " ".join((out + err).split())
    assert len(re.findall(r"max_length is (69|70)\d, not 512: so long is the longest row", said)) == 1


def test_a_limit_that_was_set_or_is_the_models_own_holds(gru, world, long_rows):
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in settings(world).items()]
    for more in ("--learning-rate=1e-4", "--max-length=512"):
        code, _, err = gru("unlearn", *arguments, more, "--dry-run")
        assert (code, "the answer is cut by max length 512 (the longest row has" in err) == (2, True), err
    long_rows(1200)
    code, _, err = gru("unlearn", *arguments, "--dry-run")
    assert (code, "is cut by max length 1000 (the longest row has" in err) == (2, True), err
