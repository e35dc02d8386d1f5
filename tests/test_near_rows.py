"""Of a large pool of retain rows, those near the forget rows and some of all the others."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel

import talking
import tiny
from gru_unlearn.common.notices import Notice
from gru_unlearn.data import Encoder, load_records
from gru_unlearn.data.records import to_record
from gru_unlearn.errors import UserError
from gru_unlearn.runs.near_choice import drawn_rows
from gru_unlearn.runs.near_rows import near_and_spread, nearness, row_features
from gru_unlearn.runs.recipe import make_recipe
from gru_unlearn.runs.retain_rows import write_found_rows
from gru_unlearn.runs.run_preparation import prepare


def examples_of(rows):
    return Encoder(tiny.tokenizer()).encode_all([to_record(row, "row") for row in rows], "rows")


def near_and_far(count):
    """Rows like the forget rows of :func:`tiny.rows`, and as many about something else, in turn."""
    near = tiny.rows(count)
    far = [{"question": f"what works {row['question'][-5:]}", "answer": "two three two three two ."} for row in near]
    return [row for pair in zip(near, far, strict=True) for row in pair]


# --- features --------------------------------------------------------------------------------------------------------


def gpt2():
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=48, n_positions=128, n_embd=16, n_layer=2, n_head=2))


@pytest.mark.parametrize("make", [tiny.model, gpt2])
def test_features_are_means_over_a_rows_own_tokens(make):
    model, examples = make(), examples_of(near_and_far(5))
    model.train()
    state = torch.get_rng_state()
    together = row_features(model, examples, pad_token_id=0, batch_size=10)
    assert torch.equal(state, torch.get_rng_state())
    assert model.training
    model.eval()
    for example, feature in zip(examples, together, strict=True):
        alone = model(input_ids=torch.tensor([example["input_ids"]]), output_hidden_states=True).hidden_states[1]
        torch.testing.assert_close(feature, alone[0].mean(dim=0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together, row_features(model, examples, pad_token_id=0, batch_size=3))


def test_rows_of_the_forget_rows_kind_are_nearer():
    model = tiny.model()
    forget, pool = (
        row_features(model, examples_of(tiny.rows(6)), 0),
        row_features(model, examples_of(near_and_far(15)), 0),
    )
    near = nearness(forget, pool)
    assert near.abs().max() <= 1 + 1e-5
    assert near[0::2].mean() > near[1::2].mean() + 0.2


# --- choice ----------------------------------------------------------------------------------------------------------

NEAR = st.lists(st.floats(-1, 1).map(lambda value: round(value, 1)), min_size=1, max_size=80)


@given(near=NEAR, count=st.integers(1, 90), share=st.floats(0, 1))
def test_chosen_rows_are_some_of_the_nearest_and_some_of_the_others(near, count, share):
    chosen = near_and_spread(near, count, share)
    assert len(chosen) == len(set(chosen)) == min(count, len(near))
    assert chosen == sorted(chosen)
    nearest = round(share * count)
    if count < len(near) and nearest:
        mark = sorted(near, reverse=True)[nearest - 1]
        assert {number for number, value in enumerate(near) if value > mark} <= set(chosen)


def test_those_that_are_not_near_come_from_everywhere():
    near = [1.0] * 10 + [0.0] * 90
    chosen = near_and_spread(near, 20)
    assert chosen[:10] == list(range(10))
    others = chosen[10:]
    assert [number // 9 for number in [other - 10 for other in others]] == list(range(10))


# --- in a run --------------------------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path):
    tiny.save_world(tmp_path)
    pool = talking.write(tmp_path / "pool.jsonl", [{**row, "id": n} for n, row in enumerate(near_and_far(30))])
    forget = talking.write(tmp_path / "forget.jsonl", tiny.rows(4, start=31))
    return {"model": str(tmp_path / "model"), "forget": str(forget), "retain": str(pool), "use_cpu": True,
            "output_dir": str(tmp_path / "run"), "max_steps": 1, "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 1, "retain_batch_size": 8, "allow_overlap": True}  # fmt: skip


def test_near_rows_of_a_large_pool_guard_the_run(world):
    with pytest.warns(Notice, match="8 of 60 retain rows guard the run"):
        prepared = prepare(make_recipe(world | {"retain_choice": "near"}))
    chosen = [record.row["id"] for record in prepared.sets["retain"]]
    assert chosen == sorted(chosen)
    assert len(chosen) == 8
    assert sum(number % 2 == 0 for number in chosen) > 4  # rows of their kind stand at even places
    assert prepared.found == {"retain": "part"}

    spread = prepare(make_recipe(world | {"retain_choice": "spread"}))
    assert [record.row["id"] for record in spread.sets["retain"]] == [4, 8, 20, 25, 30, 42, 47, 59]


def test_all_rows_guard_the_run_unless_it_is_said_otherwise(world):
    for choice in ({}, {"retain_choice": "all"}, {"learning_rate": "auto", "held_out": None}):
        assert len(prepare(make_recipe(world | choice)).sets["retain"]) == 60


def test_a_run_draws_no_more_than_it_chose(world):
    recipe = make_recipe(world | {"max_steps": 3})
    assert drawn_rows(recipe, 4) == 3 * 8
    chosen = prepare(make_recipe(world | {"max_steps": 3, "retain_choice": "near"})).sets["retain"]
    assert len(chosen) == 15  # a quarter of the pool: more would be no choice


def test_an_interrupted_run_goes_on_with_its_choice_and_only_of_the_same_pool(world, monkeypatch):
    settings = world | {"retain_choice": "near"}
    begun = prepare(make_recipe(settings))
    with begun.claim.held() as folder:
        write_found_rows(begun.run_rows, folder)
    monkeypatch.setattr("gru_unlearn.runs.near_choice.row_features", None)  # another machine may see others as near
    again = prepare(make_recipe(settings))
    assert again.claim.resume
    assert again.sets == begun.sets

    monkeypatch.undo()
    rows = [record.row for record in load_records(world["retain"])]
    talking.write(begun.output.parent / "pool.jsonl", rows[:-1])
    with pytest.raises(UserError, match="different: retain"):
        prepare(make_recipe(settings))


def test_an_unknown_choice_is_refused(world):
    with pytest.raises(UserError, match="retain_choice"):
        make_recipe(world | {"retain_choice": "nearest"})


def test_a_choice_without_rows_to_choose_from_is_refused(world):
    for retain in (
        {"retain": "made"},
        {"retain": None, "retain_weight": 0, "rectification": "none", "retain_batch_size": None},
    ):
        with pytest.raises(UserError, match="--retain-choice needs retain rows to choose from"):
            prepare(make_recipe(world | retain | {"retain_choice": "near"}), idle_settings=False)
