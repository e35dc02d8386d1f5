"""The trainer: windows, placements of the retain term, references, resuming, and stopping before NaN."""

import copy

import datasets
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import TrainerCallback

import tiny
from gru_unlearn import UnlearningConfig, UnlearningTrainer
from gru_unlearn.data import Encoder, PairSampler, collate, to_record
from gru_unlearn.errors import NonFiniteError, UserError
from gru_unlearn.objectives import OBJECTIVES, token_logps
from gru_unlearn.training import answer_logps, last_whole_checkpoint

FORGET, RETAIN = tiny.rows(8), tiny.rows(16, start=8)


def config(folder, **options):
    defaults = {
        "learning_rate": 5e-3,
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "warmup_steps": 0,
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    return UnlearningConfig(output_dir=str(folder), **(defaults | options))


def trainer(folder, *, model=None, callbacks=None, forget=FORGET, retain=RETAIN, own=None, **options):
    return UnlearningTrainer(
        model or tiny.model(),
        config(folder, **options),
        forget_dataset=forget,
        retain_dataset=retain,
        processing_class=tiny.tokenizer(),
        callbacks=callbacks,
        objective=own,
    )


def weights(model):
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def trained(folder, **options):
    run = trainer(folder, **options)
    run.train()
    return weights(run.model)


def by_hand(*, objective="ga", gamma=None, inside=0.0, after=0.0, every=1, steps=4, batch=4, lr=5e-3, **kwargs):
    """The same training written out with plain autograd: dense vectors, one model, no Trainer."""
    model, tokenizer = tiny.model(), tiny.tokenizer()
    encoder = Encoder(tokenizer)
    forget = encoder.encode_all([to_record(row, "") for row in FORGET], "forget")
    retain = encoder.encode_all([to_record(row, "") for row in RETAIN], "retain")
    params = list(model.parameters())
    sampler = PairSampler(len(forget), len(retain), seed=42)
    pairs = []
    for epoch in range(steps * batch // len(forget) + 1):
        sampler.set_epoch(epoch)
        pairs += [(index, partner) for index, (partner,) in sampler]
    decay = {n for n, p in model.named_parameters() if "norm" not in n}
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for n, p in model.named_parameters() if n in decay], "weight_decay": 0.01},
            {"params": [p for n, p in model.named_parameters() if n not in decay], "weight_decay": 0.0},
        ],
        lr=lr,
    )
    r = 0.0
    for step in range(steps):
        window = pairs[step * batch : (step + 1) * batch]
        grads = {}
        for side, examples in (("forget", forget), ("retain", retain)):
            rows = collate([examples[pair[side == "retain"]] for pair in window], tokenizer.pad_token_id)
            logps, mask = token_logps(model, rows["input_ids"], rows["attention_mask"], rows["labels"])
            values = OBJECTIVES[objective](logps, mask, **kwargs) if side == "forget" else -logps
            loss = values.mean() if values.ndim == 1 else values.sum() / mask.sum()
            grads[side] = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, params)])
        u, new = grads["forget"] + inside * grads["retain"], grads["retain"]
        if gamma is not None:
            if step % every == 0:
                r = gamma * new + (1 - gamma) * r
            if u @ r < 0:
                u = u - (u @ r) / (r @ r) * r
        u = u + after * new
        offset = 0
        for p in params:
            p.grad = u[offset : offset + p.numel()].view_as(p).clone()
            offset += p.numel()
        nn.utils.clip_grad_norm_(params, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / steps)
        optimizer.step()
    return weights(model)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"objective": "ga", "rectification": "none"}, {}),
        ({"objective": "ga", "rectification": "gru"}, {"gamma": 0.8}),
        (
            {"objective": "simnpo", "beta": 0.5, "rectification": "gru", "new_gradient_weight": 1.0},
            {"objective": "simnpo", "gamma": 1.0, "beta": 0.5},
        ),
        ({"objective": "graddiff", "rectification": "none"}, {"inside": 1.0}),
        ({"objective": "graddiff", "rectification": "gru"}, {"gamma": 0.8, "inside": 1.0}),
        (
            {"objective": "ga", "rectification": "gru", "retain_weight": 0.5, "retain_placement": "after"},
            {"gamma": 0.8, "after": 0.5},
        ),
        ({"objective": "ga", "rectification": "gru", "retain_every": 3}, {"gamma": 0.8, "every": 3}),
    ],
)
def test_equals_training_by_hand(tmp_path, options, expected):
    actual, reference = trained(tmp_path, **options), by_hand(**expected)
    assert (reference - weights(tiny.model())).norm() > 0.1
    torch.testing.assert_close(actual, reference, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("objective", ["ga", "npo", "wga"])
def test_one_batch_of_eight_equals_eight_accumulated(tmp_path, objective):
    options = {"objective": objective, "max_steps": 5}
    one = trained(tmp_path / "a", per_device_train_batch_size=8, **options)
    eight = trained(tmp_path / "b", per_device_train_batch_size=1, gradient_accumulation_steps=8, **options)
    torch.testing.assert_close(one, eight, rtol=1e-4, atol=2e-5)


def test_a_short_last_window_is_still_a_mean(tmp_path):
    """Eight rows in windows of 3 × 2: the second window of an epoch has two rows."""
    whole = trained(tmp_path / "a", objective="ga", per_device_train_batch_size=6)
    cut = trained(tmp_path / "b", objective="ga", per_device_train_batch_size=2, gradient_accumulation_steps=3)
    torch.testing.assert_close(whole, cut, rtol=1e-4, atol=2e-5)


def test_npo_reference_is_the_model_before_and_no_second_model_is_kept(tmp_path):
    model = tiny.model()
    run = trainer(tmp_path, model=model, objective="npo")
    start = answer_logps(
        copy.deepcopy(model), run.forget_examples, batch_size=3, pad_token_id=0, device=torch.device("cpu")
    )
    run.train()
    assert [e["reference"] for e in run.forget_examples] == pytest.approx(start.total.tolist(), rel=1e-5)
    assert run._reference_model is None
    losses = [row["forget_loss"] for row in run.state.log_history if "forget_loss" in row]
    assert losses[0] == pytest.approx(20 * torch.log(torch.tensor(2.0)).item(), rel=1e-4), "ratio 1 at the first step"
    assert losses[-1] < losses[0]


def test_kl_retain_loss_is_zero_at_the_start_and_pulls_back(tmp_path):
    run = trainer(tmp_path, objective="ga", retain_loss="kl", retain_weight=1.0)
    run.train()
    losses = [row["retain_loss"] for row in run.state.log_history if "retain_loss" in row]
    assert losses[0] == pytest.approx(0, abs=1e-6)
    assert losses[-1] > 1e-3


@pytest.mark.parametrize("retain_loss", ["nll", "kl", "anchor"])
def test_lora_trains_the_adapters_only(tmp_path, retain_loss):
    model = get_peft_model(tiny.model(), LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    run = trainer(tmp_path, model=model, objective="npo", retain_loss=retain_loss, save_strategy="steps", save_steps=2)
    run.train()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved
    assert all("lora_" in name for name in moved)
    assert run._reference_model is None
    held = set(run.rectifier.state_dict()["retain_direction"])
    assert held
    assert all("lora_" in name for name in held)
    assert (last_whole_checkpoint(tmp_path) / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("rectification", ["gru", "gru/element/update"])
def test_gradient_checkpointing_changes_nothing_and_adapters_still_move(tmp_path, rectification):
    def run(name, **options):
        torch.manual_seed(0)
        model = get_peft_model(tiny.model(), LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
        before = weights(model)
        trainer(tmp_path / name, model=model, objective="npo", rectification=rectification, **options).train()
        assert (weights(model) - before).norm() > 1e-2
        return weights(model)

    torch.testing.assert_close(run("plain"), run("checkpointed", gradient_checkpointing=True), rtol=1e-4, atol=1e-5)


def test_rectified_logs_explain_themselves(tmp_path):
    run = trainer(tmp_path, objective="ga", eval_strategy="steps", eval_steps=2)
    run.train()
    log = [row for row in run.state.log_history if "loss" in row]
    assert {"conflict_rate", "cosine", "removed_share", "retain_change", "forget_loss", "retain_loss"} <= set(log[0])
    assert all(0 <= row["conflict_rate"] <= 1 and -1 <= row["cosine"] <= 1 for row in log)
    evaluations = [row for row in run.state.log_history if "eval_forget_prob" in row]
    assert [row["step"] for row in evaluations] == [0, 2, 4]
    assert evaluations[-1]["eval_forget_prob"] < evaluations[0]["eval_forget_prob"]
    assert 0 < evaluations[0]["eval_retain_prob"] < 1


def test_stops_at_the_stated_forget_probability(tmp_path):
    start = trainer(tmp_path / "a", objective="ga").evaluate()["eval_forget_prob"]
    run = trainer(
        tmp_path / "b", objective="ga", max_steps=50, eval_strategy="steps", eval_steps=1, stop_at_forget_prob=start / 2
    )
    run.train()
    assert run.state.global_step < 50
    probabilities = [row["eval_forget_prob"] for row in run.state.log_history if "eval_forget_prob" in row]
    assert probabilities[-1] <= start / 2 < probabilities[-2]


def test_a_users_own_objective(tmp_path):
    def repel(logps, mask, strength=2.0):
        """One value per example."""
        return strength * (logps * mask).sum(dim=1) / mask.sum(dim=1)

    own = trainer(tmp_path / "a", own=repel)
    own.train()
    assert not torch.equal(weights(own.model), weights(tiny.model()))


@pytest.mark.parametrize("kind", ["datasets", "examples", "records"])
def test_accepts_what_people_have(tmp_path, kind):
    encoder = Encoder(tiny.tokenizer())
    forms = {
        "datasets": datasets.Dataset.from_list,
        "records": lambda rows: [to_record(row, "") for row in rows],
        "examples": lambda rows: encoder.encode_all([to_record(row, "") for row in rows], ""),
    }
    run = trainer(tmp_path, forget=forms[kind](FORGET), retain=forms[kind](RETAIN), objective="ga")
    assert run.forget_examples == trainer(tmp_path, objective="ga").forget_examples


class KillAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "options",
    [
        {"objective": "npo"},
        {"objective": "ga", "retain_weight": 1.0, "retain_placement": "after"},
        {"objective": "npo", "retain_loss": "kl", "per_device_train_batch_size": 1, "gradient_accumulation_steps": 3},
        {"objective": "tnpo", "rectification": "gru/element/update", "retain_batch_size": 7},
        {"objective": "npo", "retain_loss": "anchor", "retain_weight": 10.0},
        {"objective": "dpo", "rectification": "gru/layer/memory=3"},
        {"objective": "rmu", "rectification": "pdu"},
        {"objective": "npo", "rectification": "gru/element/update", "retain_every": 3},
        {"objective": "npo", "rectification": "recommended"},
        {"objective": "npo", "rectification": "pdu/warmup_steps=3", "retain_every": 2},
        {"objective": "graddiff", "rectification": "sago"},
    ],
)
@pytest.mark.parametrize("killed_at", [3, 6])
def test_resumes_to_the_same_bits(tmp_path, options, killed_at):
    """Killed between checkpoints (every 2 steps), in the middle of an epoch; the retain direction included."""
    options = {"max_steps": 9, "save_strategy": "steps", "save_steps": 2, **options}
    whole = trainer(tmp_path / "whole", **options)
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path / "cut", callbacks=[KillAt(killed_at)], **options).train()
    resumed = trainer(tmp_path / "cut", **options)
    resumed.train(resume_from_checkpoint=True)
    assert torch.equal(weights(whole.model), weights(resumed.model))
    ours, theirs = (run.rectifier.state_dict() for run in (resumed, whole))
    directions = ours.pop("retain_direction"), theirs.pop("retain_direction")
    assert ours == theirs
    assert all(torch.equal(directions[0][name], r) for name, r in directions[1].items())


def test_a_cut_short_checkpoint_is_passed_over(tmp_path):
    trainer(tmp_path, max_steps=4, save_strategy="steps", save_steps=2).train()
    assert last_whole_checkpoint(tmp_path).name == "checkpoint-4"
    state = tmp_path / "checkpoint-4" / "trainer_state.json"
    state.write_text(state.read_text()[:40])
    assert last_whole_checkpoint(tmp_path).name == "checkpoint-2"
    state.unlink()
    assert last_whole_checkpoint(tmp_path).name == "checkpoint-2"
    assert last_whole_checkpoint(tmp_path / "nowhere") is None
    with pytest.raises(UserError, match=r"no whole checkpoint in .*nowhere"):
        trainer(tmp_path / "nowhere").train(resume_from_checkpoint=True)


def test_nan_stops_before_the_step_and_is_never_saved(tmp_path):
    def poisoned(logps, mask):
        poisoned.calls += 1
        return logps * (float("nan") if poisoned.calls == 3 else 1.0)

    poisoned.calls = 0
    run = trainer(tmp_path, own=poisoned, save_strategy="steps", save_steps=1)
    with pytest.raises(NonFiniteError, match="step 3"):
        run.train()
    assert weights(run.model).isfinite().all()
    assert last_whole_checkpoint(tmp_path).name == "checkpoint-2"
    with torch.no_grad():
        next(run.model.parameters())[0, 0] = float("inf")
    with pytest.raises(NonFiniteError, match="not saved"):
        run.save_model(str(tmp_path / "model"))
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "nop"}, "did you mean 'npo'"),
        ({"rectification": "gruu"}, "did you mean 'gru'"),
        ({"retain_loss": "kll"}, "did you mean 'kl'"),
        ({"retain_placement": "before"}, "choose from: after, inside"),
        ({"learning_rate": float("nan")}, "learning_rate must be finite and above 0, got nan"),
        ({"learning_rate": float("inf")}, "got inf"),
        ({"learning_rate": "1e-4"}, "learning_rate must be a number or 'auto', got '1e-4'"),
        ({"learning_rate": "AUTO"}, "learning_rate must be a number or 'auto', got 'AUTO'"),
        ({"retain_every": "2"}, "retain_every must be a number, got '2'"),
        ({"learning_rate": -1e-5}, "got -1e-05"),
        ({"new_gradient_weight": 0}, "new_gradient_weight must be above 0 and at most 1"),
        ({"objective": "ga", "beta": 0.1}, "objective 'ga' has no beta"),
        ({"beta": -1.0}, "beta must be finite and above 0"),
        ({"fp16": True}, "use bf16"),
        ({"deepspeed": {"zero_optimization": {"stage": 2}}}, "FSDP2"),
        ({"stop_at_forget_prob": 2.0}, "between 0 and 1"),
        ({"max_length": 1}, "max_length must be at least 2"),
        ({"retain_every": 0}, "retain_every must be at least 1"),
        ({"retain_every": 2, "objective": "graddiff"}, "retain term of weight 1 would be missing"),
        ({"retain_every": 2, "rectification": "none", "retain_weight": 0.5}, "would be missing there"),
        ({"rectification": "sago/wait=1"}, "sago has no setting 'wait'"),
    ],
)
def test_settings_that_cannot_work(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        config(tmp_path, **options)


def test_data_that_cannot_work(tmp_path):
    with pytest.raises(UserError, match="forget set is empty"):
        trainer(tmp_path, forget=[])
    with pytest.raises(UserError, match="needs a retain set"):
        trainer(tmp_path, retain=None)
    unlabelled = {"input_ids": [2, 7, 1], "labels": [2, -100, -100]}
    with pytest.raises(UserError, match="retain, row 2: no label after the first token"):
        trainer(tmp_path, retain=[unlabelled | {"labels": [2, 7, 1]}, unlabelled])
    with pytest.raises(UserError, match="row 1 has the fields a"):
        trainer(tmp_path, forget=[{"a": 1}])
    assert trainer(tmp_path, retain=None, rectification="none").train().global_step == 4


@pytest.mark.parametrize("word", ["gru", "gru/element/update", "gru/memory=2"])
def test_a_retain_gradient_that_is_not_finite_stops_the_run(tmp_path, word):
    """The losses are finite, and so is the forget gradient: only the retain pass tells."""
    run = trainer(tmp_path, rectification=word)
    mean_loss = run._mean_loss

    def broken(side, model, batch):
        loss = mean_loss(side, model, batch)
        if side == "forget" or run.state.global_step < 2:
            return loss
        weight = next(model.parameters())
        return loss + (0 * weight.sum()).abs().sqrt()  # 0, with a slope of NaN

    run._mean_loss = broken
    with pytest.raises(NonFiniteError, match="step 3"):
        run.train()
    assert weights(run.model).isfinite().all()
