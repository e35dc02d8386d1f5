"""The retain loss ``anchor``: KL over the likeliest tokens and all others as one, scored before the first step."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny
from gru_unlearn.data import PairSampler
from gru_unlearn.objectives import anchor, anchors_of, kl, undial, undial_anchor
from gru_unlearn.training import UnlearningConfig, UnlearningTrainer
from gru_unlearn.training.anchors import drawn_partners

VOCABULARY = 11


def of_models(seed, tokens=5, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(tokens, VOCABULARY, generator=generator, dtype=torch.float64) for _ in range(2)]


@given(seed=st.integers(0, 10_000), most=st.integers(1, VOCABULARY + 5))
def test_lies_between_zero_and_kl_and_is_kl_where_one_token_is_left(seed, most):
    logits, before = of_models(seed)
    found = anchor(logits, *anchors_of(before, most))
    exact = kl(logits, before)
    assert found.shape == exact.shape == (1, 5)
    assert (found >= -1e-5).all()
    assert (found <= exact * (1 + 1e-5) + 1e-5).all()
    if most >= VOCABULARY - 1:
        torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-5)


def test_is_the_divergence_of_the_merged_outcomes_by_hand():
    logits, before = of_models(0, tokens=1)
    p, q = before.softmax(-1)[0], logits.softmax(-1)[0]
    top = p.topk(3).indices
    merged = [(p[i], q[i]) for i in top]
    merged.append((1 - p[top].sum(), 1 - q[top].sum()))
    expected = sum(a * (a / b).log() for a, b in merged)
    torch.testing.assert_close(anchor(logits, *anchors_of(before, 3))[0, 0].double(), expected, rtol=1e-5, atol=1e-7)


@given(seed=st.integers(0, 10_000), most=st.integers(1, VOCABULARY + 5))
def test_undial_over_anchors_teaches_the_merged_outcomes_with_the_true_token_lowered(seed, most):
    logits, before = of_models(seed)
    likeliest, least = before.argmax(-1), before.argmin(-1)
    anchors = anchors_of(before, most)
    found = undial_anchor(logits, likeliest, *anchors, beta=2.0)
    assert found.shape == (1, 5)
    if most >= VOCABULARY - 1:
        whole = undial(logits, likeliest, before.float(), beta=2.0)
        torch.testing.assert_close(found, whole.to(found.dtype), rtol=1e-4, atol=1e-5)
    unlowered = undial_anchor(logits, likeliest, *anchors, beta=0.0)
    torch.testing.assert_close(undial_anchor(logits, least, *anchors, beta=2.0), unlowered)  # already among the others


def test_gradient_is_zero_at_the_start_and_finite_where_a_token_is_certain():
    _, before = of_models(1)
    logits = before.clone().requires_grad_()
    anchor(logits, *anchors_of(before, 4)).sum().backward()
    assert logits.grad.abs().max() < 1e-6

    certain = torch.zeros(1, VOCABULARY)
    certain[0, 2] = 200.0
    moved = torch.zeros(1, VOCABULARY, requires_grad=True)
    anchor(moved, *anchors_of(certain, 4)).sum().backward()
    assert moved.grad.isfinite().all()
    assert moved.grad[0, 2] < 0


def test_pulls_back_as_kl_does_without_a_second_model(tmp_path):
    ends = {}
    for loss in ("kl", "anchor"):
        run = tiny.trainer(
            tmp_path / loss, tiny.model(), objective="ga", retain_loss=loss, retain_weight=1.0, max_steps=6
        )
        run.train()
        losses = [row["retain_loss"] for row in run.state.log_history if "retain_loss" in row]
        assert abs(losses[0]) < 1e-6
        assert losses[-1] > 0
        ends[loss] = losses
    assert run._reference_model is None
    torch.testing.assert_close(torch.tensor(ends["anchor"]), torch.tensor(ends["kl"]), rtol=0.2, atol=1e-6)


def test_only_rows_that_will_be_drawn_are_scored():
    args = UnlearningConfig(
        output_dir="unused", report_to="none", num_train_epochs=2, per_device_train_batch_size=2, warmup_steps=0
    )
    sampler = PairSampler(4, 1000, seed=3, batch_size=2, retain_batch_size=6)
    drawn = drawn_partners(sampler, args, processes=1)
    expected = set()
    for epoch in range(2):
        sampler.set_epoch(epoch)
        for _, partners in sampler:
            expected.update(partners)
    assert drawn == sorted(expected)
    assert len(drawn) <= 24


def test_steps_decide_how_many_epochs_are_drawn(tmp_path):
    """More steps than the epochs of the settings: every row that a batch holds must have been scored."""
    run = tiny.trainer(
        tmp_path,
        tiny.model(),
        retain_loss="anchor",
        retain_weight=1.0,
        max_steps=9,
        num_train_epochs=1,
        per_device_train_batch_size=3,
        gradient_accumulation_steps=2,
    )
    run.train()
    assert run.state.global_step == 9


@pytest.mark.parametrize("sampling", ["random", "group_by_length"])
def test_where_the_last_rows_of_a_pass_are_dropped_more_passes_are_drawn(tmp_path, sampling):
    run = UnlearningTrainer(
        tiny.model(),
        UnlearningConfig(
            output_dir=str(tmp_path),
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            retain_loss="anchor",
            retain_weight=1.0,
            max_steps=5,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=1,
            dataloader_drop_last=True,
            train_sampling_strategy=sampling,
        ),
        forget_dataset=tiny.rows(7),
        retain_dataset=tiny.rows(37, start=8),
        processing_class=tiny.tokenizer(),
    )
    run.train()
    assert run.state.global_step == 5
    scored = sum("anchor_logps" in example for example in run.retain_examples)
    assert scored == 35, "of five passes with seven partners each"


@given(
    rows=st.integers(1, 40),
    batch=st.integers(1, 8),
    accumulation=st.integers(1, 4),
    processes=st.integers(1, 3),
    steps=st.integers(1, 12),
    drop_last=st.booleans(),
)
def test_as_many_passes_are_scored_as_are_begun(rows, batch, accumulation, processes, steps, drop_last):
    """Against a walk through the batches of each pass, step by step."""
    whole = batch * processes
    batches = rows // whole if drop_last else -(-rows // whole)
    if not batches:
        return  # there is not one step
    passes, left = 0, steps
    while left > 0:
        passes += 1
        left -= len(range(0, batches, accumulation))

    args = SimpleNamespace(
        max_steps=steps,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        dataloader_drop_last=drop_last,
    )
    sampler = PairSampler(rows, 100_000, seed=0, batch_size=batch)
    assert len(drawn_partners(sampler, args, processes)) == passes * rows
