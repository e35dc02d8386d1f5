"""Ways to be faster or smaller than the plain path: each gives what the plain path gives, or is refused in a line."""

import traceback
from contextlib import contextmanager, nullcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, TrainerCallback
from transformers.models.llama.modeling_llama import LlamaMLP

import tiny
from gru_unlearn import GradientRectifier, UnlearningConfig, UnlearningTrainer
from gru_unlearn.data import Encoder, PairSampler, collate_pairs, to_record
from gru_unlearn.errors import UserError
from gru_unlearn.geometry.direction import Direction
from gru_unlearn.models.loading import load_model
from gru_unlearn.objectives import supervised_positions
from gru_unlearn.runs import run_preparation as workflow
from gru_unlearn.training import last_whole_checkpoint, packages
from gru_unlearn.training.packages import uses_bitsandbytes
from gru_unlearn.training.shortcuts import last_mlp, needs_attention_mask, shortest_and_longest


def uneven(count, start=0):
    """Rows whose answers, and so lengths, differ."""
    rows = tiny.rows(count, start)
    for number, row in enumerate(rows):
        row["answer"] = " ".join(row["answer"].split()[: 3 + number % 5])
    return rows


FORGET, RETAIN = uneven(8), uneven(16, start=8)


def trainer(folder, *, model=None, callbacks=None, **options):
    defaults = {
        "objective": "npo",
        "learning_rate": 5e-3,
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "warmup_steps": 0,
        "logging_steps": 1,
        "save_strategy": "no",
        "eval_on_start": False,
        "disable_tqdm": True,
        "use_cpu": True,
    }
    return UnlearningTrainer(
        model or tiny.model(),
        UnlearningConfig(output_dir=str(folder), **(defaults | options)),
        forget_dataset=FORGET,
        retain_dataset=RETAIN,
        processing_class=tiny.tokenizer(),
        callbacks=callbacks,
    )


def weights(model):
    return torch.cat([p.detach().reshape(-1).float() for p in model.parameters() if p.is_floating_point()])


def trained(folder, **options):
    run = trainer(folder, **options)
    run.train()
    return weights(run.accelerator.unwrap_model(run.model))


# --- waiting for the device ------------------------------------------------------------------------------------------

WAITS = {"_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "masked_scatter", "equal", "lift_fresh"}
"""Operations that copy from a GPU to the host or back: the last is torch.tensor(...)."""


class Waits(TorchDispatchMode):
    """Notes which file asked for an operation that would make a GPU and the program wait for each other."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._overloadpacket.__name__
        by_mask = name.startswith(("index", "_index_put")) and any(
            isinstance(part, torch.Tensor) and part.dtype == torch.bool
            for group in args[1:2]
            for part in (group if isinstance(group, (list, tuple)) else [group])
        )
        if name in WAITS or by_mask:
            own = [frame for frame in traceback.extract_stack()[:-1] if "/torch/" not in frame.filename]
            self.found.append(f"{name} in {own[-1].filename}:{own[-1].lineno}")
        return function(*args, **(kwargs or {}))


class Watched(TrainerCallback):
    """Watches the third step, when everything that happens once has happened."""

    def __init__(self):
        self.mode, self.watching = Waits(), nullcontext()

    def on_step_begin(self, args, state, control, **_):
        if state.global_step == 2:
            self.mode.__enter__()

    def on_step_end(self, args, state, control, **_):
        if state.global_step == 3:
            self.mode.__exit__(None, None, None)


@pytest.mark.parametrize(
    "options",
    [
        {"rectification": "none", "objective": "graddiff"},
        {"rectification": "gru", "retain_direction_dtype": "bfloat16"},
        {"rectification": "gru/layer", "objective": "dpo", "retain_weight": 1.0, "retain_placement": "after"},
        {"rectification": "gru/element/update", "objective": "tnpo"},
        {"rectification": "pcgrad", "objective": "rmu"},
        {"rectification": "ngdiff", "objective": "undial", "max_grad_norm": 0.0},
    ],
)
def test_nothing_in_a_step_waits_for_the_device_but_transformers_masks(tmp_path, options):
    watched = Watched()
    trainer(tmp_path, callbacks=[watched], telemetry=False, logging_strategy="no", **options).train()
    ours = [wait for wait in watched.mode.found if "transformers/masking_utils.py" not in wait]
    assert not ours
    assert watched.mode.found, "the masks of transformers ask a question in every pass: else nothing was watched"


def test_with_telemetry_a_step_waits_once(tmp_path):
    """For the check that loss and gradients are finite, before the optimizer's step."""
    watched = Watched()
    trainer(tmp_path, callbacks=[watched], logging_strategy="no").train()
    ours = [wait for wait in watched.mode.found if "transformers/masking_utils.py" not in wait]
    assert len(ours) == 1
    assert "training/trainer.py" in ours[0]


def test_a_batch_brings_the_places_of_its_labels():
    encoder = Encoder(tiny.tokenizer())
    examples = encoder.encode_all([to_record(row, "") for row in FORGET], "")
    examples[0]["alternative"] = examples[3]
    batch = collate_pairs([{"forget": [examples[0]], "retain": examples[1:4]}], pad_token_id=0)
    (forget,), (retain,) = batch["forget"], batch["retain"]
    for part in (forget, forget["alternative"], retain):
        found = part["supervised"]
        kept = part["labels"] != -100
        assert torch.equal(part["labels"].flatten()[found["tokens"]], part["labels"][kept])
        assert torch.equal(part["labels"].flatten()[found["predicting"] + 1], part["labels"][:, 1:][kept[:, 1:]])
        assert torch.equal(found["mask"].flatten().nonzero().squeeze(1), found["slots"])
        assert found["mask"].sum(dim=1).tolist() == kept[:, 1:].sum(dim=1).tolist()


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=4))
def test_places_of_any_labels(kept):
    labels = torch.where(torch.tensor(kept), torch.arange(4), -100)
    found = supervised_positions(labels)
    placed = torch.full(found["mask"].shape, -1).flatten().index_copy(0, found["slots"], found["predicting"])
    rows = placed.view(found["mask"].shape)
    for row, (places, taken) in enumerate(zip(rows, found["mask"], strict=True)):
        expected = [4 * row + t for t in range(3) if kept[row][t + 1]]
        assert places[taken].tolist() == expected


# --- shortcuts of a forward pass -------------------------------------------------------------------------------------


def probe(model):
    rows = Encoder(tiny.tokenizer()).encode_all([to_record(row, "") for row in FORGET], "")
    return shortest_and_longest(rows, model, 0)


def test_a_causal_model_needs_no_mask_and_trains_alike_without(tmp_path, monkeypatch):
    model = tiny.model()
    assert not needs_attention_mask(model, probe(model))
    bare = trained(tmp_path / "bare")
    monkeypatch.setattr("gru_unlearn.training.trainer.needs_attention_mask", lambda *_: True)
    masked = trained(tmp_path / "masked")
    torch.testing.assert_close(bare, masked, rtol=1e-4, atol=1e-5)
    assert (bare - weights(tiny.model())).norm() > 0.1


def test_the_try_stays_within_the_positions_that_a_model_has():
    longest = probe(tiny.model())["input_ids"].shape[1]
    shape = {"vocab_size": 48, "n_embd": 16, "n_layer": 1, "n_head": 2, "bos_token_id": 2, "eos_token_id": 1}
    model = GPT2LMHeadModel(GPT2Config(n_positions=longest - 4, **shape))
    assert not needs_attention_mask(model, probe(model))


def test_a_model_that_looks_ahead_keeps_its_mask():
    model = tiny.model()
    model.model.embed_tokens.register_forward_hook(lambda _m, _a, out: out + 0.1 * out.mean(dim=1, keepdim=True))
    assert needs_attention_mask(model.train(), probe(model))
    assert model.training


def test_training_is_alike_where_the_last_mlp_skips_prompts(tmp_path, monkeypatch):
    model = tiny.model()
    assert last_mlp(model, probe(model)) is model.model.layers[-1].mlp
    seen = []
    whole = LlamaMLP.forward
    monkeypatch.setattr(LlamaMLP, "forward", lambda self, x: (seen.append(x.shape[:2]), whole(self, x))[1])
    trimmed = trained(tmp_path / "trimmed")
    assert any(rows == 1 for rows, _ in seen)
    monkeypatch.setattr("gru_unlearn.training.trainer.last_mlp", lambda *_: None)
    torch.testing.assert_close(trimmed, trained(tmp_path / "whole"), rtol=1e-4, atol=1e-5)


def test_the_last_mlp_is_left_alone_where_positions_matter_or_layers_run_twice():
    model = tiny.model()
    batch = probe(model)
    looks_back = model.model.layers[-1].mlp.register_forward_hook(lambda _m, _a, out: out + out.cumsum(dim=1))
    assert last_mlp(model, batch) is None
    looks_back.remove()
    assert last_mlp(model, batch) is not None
    model.gradient_checkpointing_enable()
    assert last_mlp(model, batch) is None


# --- where and how r is stored ---------------------------------------------------------------------------------------


def folded(direction, *, steps=60, passes=4, gamma=0.8, skipped=()):
    """Fold random gradients, as a run does, and give the direction and what it should be, in float64."""
    generator = torch.Generator().manual_seed(0)
    param = nn.Parameter(torch.zeros(50, 40))
    exact = torch.zeros(50, 40, dtype=torch.float64)
    for step in range(steps):
        direction.decay(1 - gamma)
        exact *= 1 - gamma
        for _ in range(0 if step in skipped else passes):
            grad = torch.randn(50, 40, generator=generator) / passes
            direction.add(param, grad, gamma)
            exact += gamma * grad.double()
        direction.settle()
    return direction.get(param), exact


@pytest.mark.parametrize(
    ("gamma", "passes", "error"), [(0.8, 1, 2e-3), (0.8, 32, 8e-3), (0.4, 4, 4e-3), (0.1, 1, 5e-3), (0.1, 32, 0.025)]
)
def test_r_in_bfloat16_stays_close_to_float64(gamma, passes, error):
    found, exact = folded(Direction(torch.bfloat16), gamma=gamma, passes=passes)
    assert found.dtype == torch.bfloat16
    assert (found.double() - exact).norm() / exact.norm() < error
    assert torch.nn.functional.cosine_similarity(found.double().flatten(), exact.flatten(), dim=0) > 1 - error**2


@pytest.mark.parametrize("options", [{}, {"device": "cpu"}, {"dtype": torch.float32}])
def test_other_storage_of_the_same_type_changes_no_bit(options):
    plain, exact = folded(Direction(), skipped=(20, 59))
    other, _ = folded(Direction(**options), skipped=(20, 59))
    assert torch.equal(plain, other)
    assert (plain.double() - exact).norm() / exact.norm() < 1e-6


class Calls:
    """Stands in for streams and events: notes the order of what is asked of them."""

    def __init__(self, name, log):
        self.name, self.log = name, log

    def wait_stream(self, other):
        self.log.append((self.name, "waits for", other.name))

    def wait_event(self, event):
        self.log.append((self.name, "waits for", event))

    def record_event(self):
        self.log.append((self.name, "records", len(self.log)))
        return len(self.log) - 1


@pytest.fixture
def two_streams(monkeypatch):
    """A host that passes for a GPU, so that the way to the host and back is gone: its order, and what it does to r."""
    log = []
    main, side = Calls("main", log), Calls("side", log)

    @contextmanager
    def on(stream):
        log.append((stream.name, "begins", None))
        yield

    monkeypatch.setattr(Direction, "_is_away", lambda *_: True)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda *_: main)
    monkeypatch.setattr(torch.cuda, "Stream", lambda *_: side)
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: log.append(("host", "waits for", "all")))
    return log


def test_r_on_the_host_is_the_same_and_streams_wait_for_each_other(two_streams):
    plain, _ = folded(Direction(), skipped=(20, 59))  # _is_away says so of every storage here
    away = Direction(device="cpu")
    found, exact = folded(away, skipped=(20, 59))
    assert torch.equal(found, plain)
    assert (found.double() - exact).norm() / exact.norm() < 1e-6
    two_streams.clear()
    param = nn.Parameter(torch.zeros(3))
    for _ in range(4):
        away.add(param, torch.ones(3), 1.0)
    assert two_streams[:3] == [("side", "waits for", "main"), ("side", "begins", None), ("side", "records", 2)]
    waited = [event for who, what, event in two_streams if (who, what) == ("main", "waits for")]
    recorded = [number for who, what, number in two_streams if what == "records"]
    assert waited == recorded[:2], "at most two gradients are held while they are on their way"
    away.settle()
    assert two_streams[-1] == ("main", "waits for", "side")
    assert not away._in_flight
    copies = dict(away.copies())
    assert two_streams[-1] == ("host", "waits for", "all")
    assert copies[param].tolist() == [4.0, 4.0, 4.0]


@pytest.mark.parametrize("rectification", ["gru", "gru/element/update", "gru/layer/memory=2"])
@pytest.mark.parametrize("storage", [{"retain_dtype": torch.bfloat16}, {"retain_device": "cpu"}])
def test_a_rectifier_with_r_elsewhere_rectifies_alike(rectification, storage, request):
    def run(**options):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
        rectifier = GradientRectifier(net, optimizer, rectification, retain_step=0.1, **options)
        data = torch.Generator().manual_seed(1)
        for _ in range(12):
            x, y = torch.randn(16, 8, generator=data), torch.randn(16, 4, generator=data)
            with rectifier.retain(gradient_share=0.3):
                (net(x) - y).square().mean().backward()
            (-(net(x + 0.3) - y).abs().mean()).backward()
            optimizer.step()
            optimizer.zero_grad()
        assert rectifier.telemetry.retain_norm > 0
        return weights(net), rectifier.state_dict()

    plain, _ = run()
    if "retain_device" in storage:
        request.getfixturevalue("two_streams")
    found, state = run(**storage)
    exact = "retain_device" in storage
    torch.testing.assert_close(found, plain, rtol=0, atol=0 if exact else 2e-2)
    assert {r.dtype for r in state["retain_direction"].values()} == {storage.get("retain_dtype", torch.float32)}


def test_r_in_bfloat16_in_a_run_and_after_resuming(tmp_path):
    options = {"retain_direction_dtype": "bfloat16", "max_steps": 6, "save_strategy": "steps", "save_steps": 2}
    whole = trainer(tmp_path, **options)
    whole.train()
    resumed = trainer(tmp_path, **options)
    resumed.train(resume_from_checkpoint=str(last_whole_checkpoint(tmp_path).with_name("checkpoint-2")))
    assert torch.equal(weights(whole.model), weights(resumed.model))
    held = whole.rectifier.state_dict()["retain_direction"]
    assert {r.dtype for r in held.values()} == {torch.bfloat16}
    moved = (weights(whole.model) - weights(tiny.model())).norm()
    plain = trained(tmp_path / "plain", max_steps=6)
    assert (weights(whole.model) - plain).norm() < 0.05 * moved


def test_no_type_for_r_but_numbers():
    net = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="floating-point"):
        GradientRectifier(net, torch.optim.SGD(net.parameters(), lr=0.1), retain_dtype=torch.int8)


# --- batches of similar length ---------------------------------------------------------------------------------------


@settings(deadline=None)
@given(forget=st.integers(1, 60), size=st.integers(1, 7), retain_size=st.integers(1, 9), epoch=st.integers(0, 3))
def test_grouped_pairs_are_all_there_and_as_many_as_asked_for(forget, size, retain_size, epoch):
    def draw(lengths):
        sampler = PairSampler(forget, 20, 0, size, retain_size, lengths)
        sampler.set_epoch(epoch)
        return list(sampler)

    lengths = ([(7 * i) % 31 for i in range(forget)], [(5 * i) % 17 for i in range(20)])
    grouped, plain = draw(lengths), draw(None)
    assert sorted(i for i, _ in grouped) == list(range(forget))
    assert [len(partners) for _, partners in grouped] == [len(partners) for _, partners in plain]
    assert sorted(j for _, js in grouped for j in js) == sorted(j for _, js in plain for j in js)
    assert draw(lengths) == grouped


def test_grouped_batches_pad_less_and_still_meet_at_random():
    generator = torch.Generator().manual_seed(0)
    lengths = [torch.randint(10, 200, (n,), generator=generator).tolist() for n in (400, 1000)]

    def padding(grouped):
        pairs = list(PairSampler(400, 1000, 0, 8, 8, tuple(lengths) if grouped else None))
        batches = [pairs[start : start + 8] for start in range(0, 400, 8)]
        sides = [[[lengths[0][i] for i, _ in batch] for batch in batches]]
        sides.append([[lengths[1][j] for _, js in batch for j in js] for batch in batches])
        total = sum(max(rows) * len(rows) for side in sides for rows in side)
        longest = torch.tensor([[max(rows) for rows in side] for side in sides], dtype=torch.float64)
        return 1 - sum(sum(rows) for side in sides for rows in side) / total, longest

    (random, _), (grouped, longest) = padding(False), padding(True)
    assert random > 0.35
    assert grouped < 0.1
    assert abs(torch.corrcoef(longest)[0, 1]) < 0.3, "long forget batches must not always meet long retain batches"


def test_the_trainer_groups_by_length(tmp_path):
    run = trainer(tmp_path, train_sampling_strategy="group_by_length", per_device_train_batch_size=2)
    run.train()
    assert run._get_train_sampler().lengths[0] == [len(example["input_ids"]) for example in run.forget_examples]
    assert (weights(run.model) - weights(tiny.model())).norm() > 0.1
    with pytest.raises(UserError, match="choose from: group_by_length, random"):
        trainer(tmp_path, train_sampling_strategy="batch_rebalance")


# --- compiled --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_compiled_model_trains_alike_and_is_not_compiled_for_every_batch(tmp_path):
    """Traced and differentiated as for any backend; the code that one would make of it is left out, for time."""
    torch._dynamo.utils.counters.clear()
    compiled = trained(tmp_path / "a", torch_compile=True, torch_compile_backend="aot_eager", max_steps=6)
    frames = torch._dynamo.utils.counters["frames"]
    assert frames["total"] == frames["ok"] <= 12, (
        "before the head, the head, after it: each once, and once more for any N"
    )
    torch.testing.assert_close(compiled, trained(tmp_path / "b", max_steps=6), rtol=1e-5, atol=1e-6)


# --- packages that may be missing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("adamw_torch", False),
        ("adamw_torch_fused", False),
        ("adamw_torch_8bit", False),
        ("galore_adamw_8bit", False),
        ("adafactor", False),
        ("adamw_8bit", True),
        ("adamw_bnb_8bit", True),
        ("paged_adamw_8bit", True),
        ("lion_32bit", True),
        ("rmsprop_bnb", True),
    ],
)
def test_optimizers_of_bitsandbytes(name, expected):
    assert uses_bitsandbytes(name) == expected


@pytest.mark.parametrize("name", ["adamw_bnb_8bit", "paged_adamw_8bit"])
def test_8_bit_optimizers_without_bitsandbytes_are_one_line(tmp_path, monkeypatch, name):
    monkeypatch.setattr(packages, "is_bitsandbytes_available", lambda: False)
    with pytest.raises(UserError, match=rf"--optim {name} needs bitsandbytes.*gru-unlearn\[gpu\]"):
        trainer(tmp_path, optim=name)


def test_liger_is_for_gpus_and_without_its_losses(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "is_liger_kernel_available", lambda: False)
    with pytest.raises(UserError, match="--use-liger-kernel needs liger-kernel, which is missing"):
        trainer(tmp_path, use_liger_kernel=True)
    monkeypatch.setattr(packages, "is_liger_kernel_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="needs a GPU"):
        trainer(tmp_path, use_liger_kernel=True)

    def kernels(**chosen):
        config = UnlearningConfig(
            str(tmp_path), use_cpu=True, use_liger_kernel=True, liger_kernel_config=chosen or None
        )
        return config.liger_kernel_config

    assert kernels() == {"fused_linear_cross_entropy": False, "cross_entropy": False}
    assert kernels(rope=False)["rope"] is False
    with pytest.raises(UserError, match="fused_linear_cross_entropy gives no log-probability per token"):
        kernels(fused_linear_cross_entropy=True)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--load-in-4bit"], "add --use-peft"),
        (["--load-in-4bit", "--use-peft"], "needs bitsandbytes, which is missing"),
        (["--optim", "adamw_bnb_8bit"], "needs bitsandbytes, which is missing"),
        (["--attn-implementation", "flash_attention_2"], "needs the package flash-attn"),
        (["--retain-direction-dtype", "bfloat61"], "did you mean 'bfloat16'"),
        (["--retain-direction-device", "disk"], "choose from: cpu"),
    ],
)
def test_what_cannot_be_is_one_line_before_anything_is_written(gru, tmp_path, monkeypatch, flags, message):
    for module in (packages, workflow):
        monkeypatch.setattr(module, "is_bitsandbytes_available", lambda: False)
    monkeypatch.setattr(workflow, "is_flash_attn_2_available", lambda **_: False)
    tiny.save(tmp_path / "model")
    for name, rows in (("forget", FORGET), ("retain", RETAIN)):
        (tmp_path / f"{name}.csv").write_text("\n".join(["question,answer", *(",".join(r.values()) for r in rows)]))
    sources = {"--model": "model", "--forget": "forget.csv", "--retain": "retain.csv", "--output-dir": "out"}
    words = [word for flag, name in sources.items() for word in (flag, tmp_path / name)]
    code, _, err = gru("unlearn", *words, "--use-cpu", *flags)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


# --- with bitsandbytes, where it is installed ------------------------------------------------------------------------


def wider():
    """Large enough that 8-bit optimizers do not keep 32 bits for every tensor."""
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=48, pad_token_id=0, eos_token_id=1, bos_token_id=2, **shape))


@pytest.mark.parametrize("optim", ["adamw_bnb_8bit", "paged_adamw_8bit"])
def test_8_bit_states_are_rectified_too(tmp_path, optim):
    pytest.importorskip("bitsandbytes")
    run = trainer(tmp_path, model=wider(), optim=optim, objective="ga", rectification="gru/update", max_steps=6)
    run.train()
    states = run.optimizer.optimizer.state.values()
    assert {state["state1"].dtype for state in states} == {torch.uint8, torch.float32}
    log = [row for row in run.state.log_history if "retain_change" in row]
    assert any(row["conflict_rate"] for row in log)
    assert all(row["retain_change"] < 1e-5 for row in log), "the guarantee holds for what the optimizer does"
    assert log[-1]["forget_loss"] < log[0]["forget_loss"]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_qlora_trains_adapters_beside_4_bits(tmp_path, checkpointing):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    wider().save_pretrained(tmp_path / "model")
    base = load_model(tmp_path / "model", dtype="bfloat16", load_in_4bit=True)
    assert isinstance(base.model.layers[0].mlp.up_proj, bitsandbytes.nn.Linear4bit)
    torch.manual_seed(0)
    model = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    with torch.no_grad():  # as before the first step of a run
        model.eval()(input_ids=torch.tensor([[5, 6, 7]]))
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.is_floating_point()}
    run = trainer(tmp_path / "out", model=model, retain_loss="kl", gradient_checkpointing=checkpointing)
    run.train()
    after = dict(model.named_parameters())
    moved = {name for name, p in before.items() if not torch.equal(p, after[name])}
    assert moved == {name for name in after if "lora_" in name}
    held = run.rectifier.state_dict()["retain_direction"]
    assert set(held) == moved
    packed = [getattr(getattr(p, "quant_state", None), "packing_format_for_cpu", False) for p in after.values()]
    assert not any(packed), "bitsandbytes lets no gradient through weights that it packed to evaluate on a processor"
    assert run._reference_model is None, "with its adapters off, the model is its own reference"
    run.save_model(str(tmp_path / "saved"))
    assert {file.name for file in (tmp_path / "saved").glob("*.safetensors")} == {"adapter_model.safetensors"}
