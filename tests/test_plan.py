"""``gru plan``: calculated memory against real tensors, what fits, and the command."""

import json
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.autograd.graph import saved_tensors_hooks
from transformers import LlamaConfig, LlamaForCausalLM

import tiny
from gru_unlearn import GradientRectifier
from gru_unlearn.capacity.footprint import EIGHT_BIT_STATE, fits, predict
from gru_unlearn.capacity.forward_memory import LAYER_BYTES, PRECISIONS
from gru_unlearn.capacity.model_shape import model_config, shape_of
from gru_unlearn.cli.unlearn import unlearn
from gru_unlearn.errors import UserError
from gru_unlearn.objectives import token_logps
from gru_unlearn.planning.plan_job import command_for, smallest
from gru_unlearn.planning.plan_request import parse_bytes
from gru_unlearn.results.plan_summary import Setup
from gru_unlearn.robustness import Robustness
from gru_unlearn.runs.recipe import make_recipe
from gru_unlearn.training.anchors import MOST_TOKENS, Anchors
from gru_unlearn.training.weight_pairs import WeightPairs

GIB = 2**30


def nbytes(tensors):
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def batch(rows=2, tokens=32, vocabulary=48, answer=1):
    ids = torch.randint(5, vocabulary, (rows, tokens), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[:, : tokens - answer] = -100
    return {"input_ids": ids, "attention_mask": None, "labels": labels}  # as the trainer passes it to causal models


def test_adapters_are_planned_as_their_base(tmp_path):
    tiny.save(tmp_path / "base")
    model = LlamaForCausalLM.from_pretrained(tmp_path / "base")
    adapters = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    adapters.save_pretrained(tmp_path / "adapters")
    assert model_config(str(tmp_path / "adapters")).to_dict() == model_config(str(tmp_path / "base")).to_dict()
    (tmp_path / "base").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="adapters whose base is not on this machine"):
        model_config(str(tmp_path / "adapters"))


@pytest.mark.parametrize(
    ("preset", "parameters"),
    [("llama-1b", 1_235_814_400), ("llama-8b", 8_030_261_248), ("llama-70b", 70_553_706_496)],
)
def test_presets_have_the_published_number_of_parameters(preset, parameters):
    assert shape_of(model_config(preset)).parameters == parameters


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("rectification", ["gru", "gru/memory=3", "gru/element/update"])
def test_what_stays_is_exact(method, precision, rectification):
    model = tiny.model().to(getattr(torch, precision))
    expected = predict(
        shape_of(model.config), Setup(method=method, precision=precision, rectification=rectification, lora_r=3)
    )
    if method == "lora":
        model = get_peft_model(model, LoraConfig(r=3, target_modules="all-linear", task_type="CAUSAL_LM"))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    pairs = WeightPairs(model)
    pairs.before_steps_of(optimizer)
    rectifier = GradientRectifier(model, optimizer, rectification)
    pairs.after_steps_of(optimizer)
    copies = []
    optimizer.register_step_pre_hook(lambda *_: copies.append(nbytes(rectifier._window.before or [])))
    for _ in range(4):
        with rectifier.retain():
            token_logps(model, **batch())[0].sum().backward()
        token_logps(model, **batch())[0].sum().neg().backward()
        optimizer.step()

    assert expected.weights == nbytes(model.parameters()) + nbytes(pairs._lower.values())
    assert expected.gradients == nbytes(p.grad for p in trained)
    states = [state[key] for state in optimizer.state.values() for key in ("exp_avg", "exp_avg_sq")]
    assert expected.optimizer == nbytes(states)
    assert expected.retain_direction == nbytes(rectifier.state_dict()["retain_direction"].values())
    assert expected.update_copy == copies[-1]


def llama(layers, shared_keys):
    return LlamaConfig(
        vocab_size=48,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=1 if shared_keys else 4,
        pad_token_id=0,
    )


def kept_for_backward(method, precision, layers, rows, shared_keys):
    """Bytes of all tensors that a forward pass keeps, other than parameters."""
    model = LlamaForCausalLM(llama(layers, shared_keys)).to(
        torch.bfloat16 if precision == "bfloat16" else torch.float32
    )
    if method == "lora":
        model = get_peft_model(model, LoraConfig(r=1, target_modules="all-linear", task_type="CAUSAL_LM"))
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = []
    with (
        saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x),
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "mixed"),
    ):
        token_logps(model.train(), **batch(rows))
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in kept}
    return sum(size for place, size in storages.items() if place not in own)


@pytest.mark.parametrize("shared_keys", [False, True])
@pytest.mark.parametrize(("method", "precision"), LAYER_BYTES)
def test_activations_of_a_layer(method, precision, shared_keys):
    def one_layer(rows):
        three, two = (kept_for_backward(method, precision, layers, rows, shared_keys) for layers in (3, 2))
        return three - two

    grown = one_layer(4) - one_layer(2)  # by two rows: what does not depend on rows, like copies of weights, cancels
    setup = Setup(method=method, precision=precision, rows=2, length=32)
    assert grown == pytest.approx(predict(shape_of(llama(1, shared_keys)), setup).activations, rel=0.03)


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_more_devices_and_checkpointing_need_less(method):
    shape = shape_of(model_config("llama-8b"))
    setup = Setup(method=method, precision="mixed" if method == "full" else "bfloat16")
    one = predict(shape, setup)
    assert predict(shape, replace(setup, checkpointing=True)).peak < one.peak
    if method != "qlora":
        peaks = [predict(shape, replace(setup, devices=2**k)).peak for k in range(1, 7)]
        assert peaks == sorted(peaks, reverse=True)
        assert peaks[0] < one.peak


def test_four_bits_shrink_the_base_alone():
    shape = shape_of(model_config("llama-8b"))
    lora, qlora = (predict(shape, Setup(method=method, precision="bfloat16")) for method in ("lora", "qlora"))
    assert lora.weights - qlora.weights == pytest.approx(shape.matrices * (2 - 0.516), rel=1e-3)
    assert (lora.gradients, lora.retain_direction) == (qlora.gradients, qlora.retain_direction)


def test_r_takes_the_place_of_the_retain_gradient_where_nothing_is_accumulated():
    shape, setup = shape_of(model_config("llama-1b")), Setup(precision="float32", accumulation=1)
    assert predict(shape, setup).peak == predict(shape, replace(setup, rectification="none")).peak
    accumulated = (predict(shape, replace(setup, accumulation=2, rectification=name)).peak for name in ("gru", "none"))
    assert next(accumulated) - next(accumulated) == predict(shape, setup).retain_direction


def test_more_retain_rows_cost_no_memory():
    shape, plain = shape_of(model_config("llama-1b")), Setup(rows=5)
    for retain_rows in (3, 5, 32):
        assert predict(shape, replace(plain, retain_rows=retain_rows)) == predict(shape, plain)


def test_the_smallest_set_up_fits_and_smaller_ones_do_not():
    shape, wanted = shape_of(model_config("llama-8b")), Setup(rows=2)
    found = smallest(shape, wanted, 64, 80 * GIB)
    assert found.method == "full"
    assert fits(predict(shape, found), 80 * GIB)
    assert found.devices > 1
    assert not fits(predict(shape, replace(found, devices=found.devices // 2, checkpointing=True)), 80 * GIB)


@pytest.mark.parametrize(
    ("devices", "memory", "method"),
    [(64, "80GiB", "full"), (1, "24GiB", "lora"), (1, "12GiB", "qlora"), (1, "4GiB", None)],
)
def test_adapters_come_where_all_weights_do_not_fit(devices, memory, method):
    found = smallest(shape_of(model_config("llama-8b")), Setup(), devices, parse_bytes(memory))
    assert (found.method if found else None) == method


def test_bfloat16_weights_come_where_float32_does_not_fit_and_are_told(gru):
    shape = shape_of(model_config("llama-1b"))
    mixed, halves = (predict(shape, Setup(precision=name, checkpointing=True)).peak for name in ("mixed", "bfloat16"))
    assert halves < 0.8 * mixed
    between = int((mixed + halves) / 2 / 0.9)
    assert smallest(shape, Setup(), 1, between).precision == "bfloat16"
    assert smallest(shape, Setup(), 8, 8 * GIB).precision == "mixed", "several devices share float32 weights"
    code, out, _ = gru("plan", "--model", "llama-1b", "--gpu-memory", between)
    assert code == 0
    assert "--dtype bfloat16" in " ".join(out.split())
    assert "float32 weights do not fit" in " ".join(out.split())


def test_peft_searches_adapters_only():
    assert smallest(shape_of(model_config("llama-1b")), Setup(), 1, 80 * GIB, peft=True).method == "lora"


def test_r_in_half_the_type_takes_half_and_on_the_host_none():
    shape, setup = shape_of(model_config("llama-8b")), Setup(precision="mixed", rectification="gru/layer/memory=2")
    plain = predict(shape, setup)
    half = predict(shape, replace(setup, retain_direction_dtype="bfloat16"))
    away = predict(shape, replace(setup, retain_direction_dtype="bfloat16", retain_direction_device="cpu"))
    assert half.retain_direction == plain.retain_direction // 2
    assert (away.retain_direction, away.host, half.host) == (0, half.retain_direction, 0)
    assert away.peak < half.peak < plain.peak
    wide = replace(setup, precision="bfloat16", retain_direction_dtype="float32")
    assert predict(shape, wide).retain_direction == plain.retain_direction


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_r_of_another_type_is_exact(dtype):
    model = tiny.model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    rectifier = GradientRectifier(model, optimizer, retain_dtype=getattr(torch, dtype))
    with rectifier.retain():
        token_logps(model, **batch())[0].sum().backward()
    expected = predict(shape_of(model.config), Setup(precision="float32", retain_direction_dtype=dtype))
    assert expected.retain_direction == nbytes(rectifier.state_dict()["retain_direction"].values())


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("robust", ["spectral", "drift", "recommended"])
def test_robust_steps_are_counted(robust, method):
    """Matrices have signs and are copied, vectors are not: the plan may count a little more, and never less."""
    model = tiny.model()
    shape = shape_of(model.config)
    if method == "lora":
        model = get_peft_model(model, LoraConfig(r=3, target_modules="all-linear", task_type="CAUSAL_LM"))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    robustness = Robustness(model, optimizer, robust)
    copies = []
    optimizer.register_step_pre_hook(lambda *_: copies.append(nbytes(robustness._before)))
    token_logps(model, **batch())[0].sum().backward()
    optimizer.step()
    held = copies[-1] + nbytes(robustness._signs)
    plain = Setup(method=method, precision="float32", lora_r=3)
    found = predict(shape, replace(plain, robust=robust))
    assert held <= found.robust <= 1.05 * held
    assert predict(shape, plain).robust == 0


def test_what_robust_steps_keep_stands_in_the_peak():
    shape, plain = shape_of(model_config("llama-1b")), Setup(precision="mixed", rows=1, checkpointing=True)
    peaks = {name: predict(shape, replace(plain, robust=name)).peak for name in ("none", "drift", "recommended")}
    assert peaks["drift"] - peaks["none"] == shape.parameters
    assert peaks["recommended"] > peaks["drift"]
    assert smallest(shape, replace(plain, robust="drift"), 8, 8 * GIB).devices == 1, "robust steps see whole matrices"


def test_anchors_are_counted_in_main_memory():
    shape, plain = shape_of(model_config("llama-1b")), Setup(length=100, answer_share=0.5)
    found = predict(shape, replace(plain, anchor_rows=10))
    tokens = 10 * 50
    anchors = Anchors(torch.zeros(tokens, MOST_TOKENS + 1), torch.zeros(tokens, MOST_TOKENS, dtype=torch.int32))
    assert found.host == nbytes(anchors)
    assert found.peak == predict(shape, plain).peak


def test_a_plan_with_robust_steps_and_anchors_says_so(gru):
    code, out, err = gru("plan", "--robust", "recommended", "--anchor-rows", "100000", "--gpus", "2", "--parts")
    assert code == 0, err
    words = " ".join(out.split())
    assert "Anchors take up to" in words
    assert "--robust recommended" in words
    assert "--retain-loss anchor" in words
    code, _, err = gru("plan", "--robust", "sturdy")
    assert (code, err.count("\n")) == (2, 1)
    assert "unknown robust 'sturdy'" in err


@pytest.mark.parametrize("optim", ["adamw_8bit", "paged_adamw_8bit"])
def test_8_bit_moments_take_a_quarter_but_those_of_embeddings(optim):
    shape = shape_of(model_config("llama-1b"))
    plain, small = (predict(shape, Setup(precision="mixed", optim=name)) for name in ("adamw", optim))
    embeddings = shape.vocabulary * shape.hidden
    assert small.optimizer == pytest.approx(8 * embeddings + 2.03 * (shape.parameters - embeddings), rel=1e-3)
    assert small.optimizer < 0.5 * plain.optimizer
    assert smallest(shape, Setup(optim=optim), 8, 8 * GIB).devices == 1, "bitsandbytes does not shard"


def test_8_bit_moments_are_what_bitsandbytes_holds():
    bitsandbytes = pytest.importorskip("bitsandbytes")
    bitsandbytes.optim.GlobalOptimManager.get_instance().initialize()  # it knows weights of earlier models by their ids
    weight = torch.nn.Parameter(torch.randn(256, 128))
    optimizer = bitsandbytes.optim.AdamW8bit([weight])
    weight.sum().backward()
    optimizer.step()
    state = optimizer.state[weight]
    held = nbytes(state[key] for key in ("state1", "state2", "absmax1", "absmax2"))
    assert held == weight.numel() * EIGHT_BIT_STATE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--optim", "adamw_4bit"], "paged_adamw_8bit"),
        (["--retain-direction-dtype", "float8"], "bfloat16"),
        (["--retain-direction-device", "disk"], "cpu"),
    ],
)
def test_choices_that_there_are_not(gru, arguments, message):
    code, _, err = gru("plan", *arguments)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_command_of_every_choice_is_made_of_settings(precision):
    choices = {"retain_direction_dtype": "bfloat16", "retain_direction_device": "cpu", "optim": "adamw_8bit"}
    words = command_for("some/model", Setup(method="qlora", precision=precision, **choices)).split()
    settings = unlearn.make_context("unlearn", words[words.index("unlearn") + 1 :]).params["given"].flags
    recipe = make_recipe(settings | {"forget": "x"}, on_any_machine=True)
    assert (recipe.load_in_4bit, recipe.use_peft, recipe.config.optim) == (True, True, "adamw_bnb_8bit")
    assert recipe.config.retain_direction_device == "cpu"


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_command_s_flags_are_settings(method, precision):
    words = command_for("some/model", Setup(method=method, precision=precision, checkpointing=True)).split()
    settings = unlearn.make_context("unlearn", words[words.index("unlearn") + 1 :]).params["given"].flags
    recipe = make_recipe(settings | {"forget": "x"}, on_any_machine=True)
    assert recipe.use_peft == (method == "lora")
    assert recipe.config.bf16 == (precision == "mixed")
    assert recipe.config.gradient_checkpointing


@pytest.mark.parametrize(
    ("text", "expected"),
    [("80GiB", 80 * GIB), ("24 GB", 24 * 10**9), ("512mib", 2**29), ("1000", 1000), ("1.5G", 15 * 10**8)],
)
def test_amounts_of_memory(text, expected):
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "many", "GiB", "8 XiB", "1.2.3G", "-1G"])
def test_no_amount_of_memory(text):
    with pytest.raises(UserError, match="80GiB"):
        parse_bytes(text)


def test_plan_of_a_folder_and_its_summary(gru, tmp_path):
    tiny.model().config.save_pretrained(tmp_path / "model")  # no weights needed
    arguments = (
        "plan",
        "--model",
        tmp_path / "model",
        "--gpus",
        "2",
        "--gpu-memory",
        "1GiB",
        "--out",
        tmp_path / "out",
    )
    code, out, err = gru(*arguments)
    assert code == 0, err
    assert "calculated" in out
    assert "gru unlearn --model" in " ".join(out.split())
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["model"]["parameters"] == sum(p.numel() for p in tiny.model().parameters())
    assert {row["setup"]["devices"] for row in summary["setups"]} == {1, 2}
    assert summary["smallest"] == {**summary["smallest"], "method": "full", "devices": 1, "checkpointing": False}
    code, _, err = gru(*arguments)
    assert code == 2
    assert "--overwrite-output-dir" in err
    assert gru(*arguments, "--overwrite-output-dir")[0] == 0


def test_plan_of_a_configuration_file_and_of_nothing_that_fits(gru, tmp_path):
    tiny.model().config.save_pretrained(tmp_path)
    assert gru("plan", "--model", tmp_path / "config.json")[0] == 0
    code, out, _ = gru("plan", "--model", "llama-70b", "--gpu-memory", "8GiB")
    assert code == 0
    assert "Nothing fits" in out
