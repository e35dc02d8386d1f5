"""Weights are stepped in float32 whatever their checkpoint's type, bfloat16 ones with their lower halves beside."""

import json
import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

import tiny
from gru_unlearn import UnlearningConfig
from gru_unlearn.common.notices import Notice
from gru_unlearn.comparison.matrix import Matrix
from gru_unlearn.comparison.matrix_plan import plan
from gru_unlearn.errors import NonFiniteError, UserError
from gru_unlearn.models.loading import load_model
from gru_unlearn.models.stored_types import stored_types
from gru_unlearn.runs import run_compute_type, run_precision
from gru_unlearn.runs.recipe import make_recipe
from gru_unlearn.runs.run_precision import describe_precision
from gru_unlearn.runs.run_preparation import prepare
from gru_unlearn.training import last_whole_checkpoint, weight_pairs
from gru_unlearn.training.surviving_share import RoundingProbe
from gru_unlearn.training.weight_pairs import PAIRS_FILE, join, split

FORGET, RETAIN = tiny.rows(8), tiny.rows(16, start=8)
TYPES = ["float32", "bfloat16", "float16"]


def trainer(folder, model, **options):
    defaults = {"learning_rate": 1e-5, "max_steps": 4, "lr_scheduler_type": "constant", "use_cpu": True}
    return tiny.trainer(folder, model, **(defaults | options))


def logged(run, name):
    return [row[name] for row in run.state.log_history if name in row]


# --- the pair of halves ----------------------------------------------------------------------------------------------


def floats(bits):
    return torch.tensor(bits, dtype=torch.int64).to(torch.int32).view(torch.float32)


ANY_BITS = st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=50)


@given(ANY_BITS)
@settings(max_examples=300, deadline=None)
def test_a_pair_is_exactly_its_float32(bits):
    whole = floats(bits)
    upper, lower = split(whole)
    assert upper.dtype == torch.bfloat16
    assert lower.dtype == torch.int16
    finite = whole.isfinite()
    assert torch.equal(join(upper, lower)[finite].view(torch.int32), whole[finite].view(torch.int32))
    assert torch.equal(upper.isnan(), whole.isnan())
    assert torch.equal(upper[whole.isinf()].float(), whole[whole.isinf()])


@given(ANY_BITS)
@settings(max_examples=300, deadline=None)
def test_the_upper_half_is_a_neighbour(bits):
    whole = floats(bits)
    whole = whole[whole.abs() < 3e38]
    below = (whole.view(torch.int32) >> 16 << 16).view(torch.float32)
    above = ((whole.view(torch.int32) >> 16) + 1 << 16).view(torch.float32)
    upper = split(whole)[0].float()
    assert ((upper == below) | (upper == above)).all()
    assert torch.equal(upper[below == whole], whole[below == whole])


@given(st.floats(-4, 4), st.integers(0, 65535), st.booleans())
@settings(max_examples=100, deadline=None)
def test_rounding_is_unbiased(log_size, way, negative):
    """Weights on bfloat16 numbers that move by some of the way to the next: their mean moves as far."""
    start = torch.tensor(10**log_size).to(torch.bfloat16).float()
    whole = (start.view(torch.int32) + way).view(torch.float32).expand(1 << 16) * (1 - 2 * negative)
    spacing = (start.view(torch.int32) + (1 << 16)).view(torch.float32) - start
    off = split(whole)[0].double().mean() - whole[0].double()
    assert off.abs() <= 0.01 * spacing
    rows = split(whole.reshape(256, 256).contiguous())[0].double()
    for across in (0, 1):  # no row or column of a matrix is rounded to one side
        assert ((rows.mean(dim=across) - whole[0].double()).abs() <= 0.15 * spacing).all()


def test_pieces_of_large_tensors_join(monkeypatch):
    whole = torch.randn(7, 13)
    expected = split(whole)
    monkeypatch.setattr(weight_pairs, "_PIECE", 10)
    for found, one in zip(split(whole), expected, strict=True):
        assert torch.equal(found, one)
    assert torch.equal(join(*expected), whole)
    assert torch.equal(join(*split(whole.T)), whole.T)


def test_steps_below_the_spacing_add_up():
    """The upper halves follow at once, long before any weight is half way to its neighbour."""
    start = (torch.randn(50000, generator=torch.Generator().manual_seed(0)) * 0.02).to(torch.bfloat16).float()
    whole = start.clone()
    for step in range(1, 41):
        upper, lower = split(whole)
        assert torch.equal(join(upper, lower), whole)
        whole = whole - 1e-7
        if step % 20 == 0:
            moved = (split(whole)[0].double() - start.double()).mean().item()
            assert moved == pytest.approx(-1e-7 * step, rel=0.25)


@pytest.mark.parametrize("rectification", ["none", "gru", "gru/tensor/update", "gru/element/update"])
def test_steps_are_those_of_float32(tmp_path, rectification):
    """One step from equal gradients: the joined weights move exactly as float32 weights do."""
    made = {}
    for kind in (torch.float32, torch.bfloat16):
        model = torch.nn.Linear(40, 30, bias=False)
        with torch.no_grad():
            model.weight.copy_(torch.randn(30, 40, generator=torch.Generator().manual_seed(1)).bfloat16())
        model.to(kind)
        made[kind] = stepped(model, rectification)
    assert torch.equal(made[torch.float32], made[torch.bfloat16])


def stepped(model, rectification):
    """The weights, joined, after three steps along gradients that bfloat16 can hold."""
    from gru_unlearn.geometry import GradientRectifier  # noqa: PLC0415
    from gru_unlearn.training.weight_pairs import WeightPairs  # noqa: PLC0415

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    pairs = WeightPairs(model)
    if pairs:
        pairs.before_steps_of(optimizer)
    rectifier = None
    if rectification != "none":
        rectifier = GradientRectifier(model, optimizer, rectification, retain_dtype=torch.float32)
    if pairs:
        pairs.after_steps_of(optimizer)
    draws = torch.Generator().manual_seed(2)
    for _ in range(3):
        u, r = (torch.randn(30, 40, generator=draws).bfloat16().to(model.weight.dtype) for _ in range(2))
        if rectifier is not None and "update" in rectification:  # elsewhere g would be rounded to its own type
            with rectifier.retain():
                (model.weight * r).sum().backward()
        (model.weight * u).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        if rectifier is not None and "update" in rectification:
            assert rectifier.telemetry.retain_change <= 1e-9
    if not pairs:
        return model.weight.detach().clone()
    assert model.weight.dtype == torch.bfloat16
    with pairs.joined():
        return model.weight.detach().clone()


# --- runs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [1e-5, 5e-5])
def test_bfloat16_weights_forget_as_float32_does(tmp_path, rate):
    """Measured where the model is: the float32 run computes with the same rounded start."""
    fell, seen = {}, {}
    for kind in (torch.float32, torch.bfloat16):
        model = tiny.model().to(torch.bfloat16).to(kind)
        run = trainer(tmp_path / str(kind), model, objective="ga", learning_rate=rate, max_steps=100, logging_steps=50)
        before = tiny.weights(model)
        run.train()
        seen[kind] = (tiny.weights(model) - before).double()
        with run._pairs.joined():
            fell[kind] = (tiny.weights(model) - before).double()
        assert min(logged(run, "surviving_share")) > 0.999
    one, other = fell.values()
    assert (one @ other / one.norm() / other.norm()) > 0.95
    assert other.norm() / one.norm() == pytest.approx(1, abs=0.05)
    assert seen[torch.bfloat16] @ one / (one @ one) == pytest.approx(1, abs=0.1), "the model moves as far as its pairs"


@pytest.mark.parametrize("killed_at", [2, 3])
def test_bfloat16_runs_resume_to_the_same_bits(tmp_path, killed_at):
    options = {"max_steps": 5, "save_strategy": "steps", "save_steps": 1, "learning_rate": 1e-4}
    whole = trainer(tmp_path / "whole", tiny.model().to(torch.bfloat16), **options)
    whole.train()
    cut = trainer(tmp_path / "cut", tiny.model().to(torch.bfloat16), **options)
    cut.args.max_steps = killed_at
    cut.train()
    checkpoint = last_whole_checkpoint(tmp_path / "cut")
    assert (checkpoint / PAIRS_FILE).is_file()
    resumed = trainer(tmp_path / "cut", tiny.model(seed=1).to(torch.bfloat16), **options)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    moments = [state["exp_avg_sq"].dtype for state in resumed.optimizer.optimizer.state.values()]
    assert set(moments) == {torch.float32}
    for run in (whole, resumed):
        assert {p.dtype for p in run.model.parameters()} == {torch.bfloat16}
    with whole._pairs.joined(), resumed._pairs.joined():
        assert torch.equal(tiny.weights(whole.model), tiny.weights(resumed.model))


def test_float16_weights_are_never_stepped(tmp_path):
    with pytest.raises(UserError, match=r"is float16, in which gradients and steps overflow or vanish: load the model"):
        trainer(tmp_path, tiny.model().half())


def test_adapters_are_float32_on_any_base(tmp_path):
    model = get_peft_model(
        tiny.model().to(torch.bfloat16), LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM")
    )
    run = trainer(tmp_path, model)
    run.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert {p.dtype for p in trained} == {torch.float32}
    assert not run._pairs


# --- what rounding leaves --------------------------------------------------------------------------------------------


def share_of_a_step(kind, rate, optimizer=torch.optim.AdamW):
    model = torch.nn.Linear(64, 64, bias=False).to(kind)
    stepper = optimizer(model.parameters(), lr=rate)
    probe = RoundingProbe(list(model.parameters()), stepper)
    model.weight.grad = torch.randn(64, 64, generator=torch.Generator().manual_seed(0)).to(kind)
    stepper.step()
    return probe.share.item()


def test_the_surviving_share_tells_what_rounding_takes():
    assert share_of_a_step(torch.float32, 1e-5) > 0.99999
    assert share_of_a_step(torch.float32, 1e-10) < 0.5
    assert share_of_a_step(torch.bfloat16, 1e-5) < 0.5
    assert share_of_a_step(torch.bfloat16, 1.0) > 0.99
    assert share_of_a_step(torch.float32, 1e-5, torch.optim.SGD) > 0.999


@given(st.floats(-7, -2), st.integers(0, 100))
@settings(max_examples=50, deadline=None)
def test_the_surviving_share_is_a_lower_bound(log_rate, seed):
    """Against plain descent, whose step is known: the share of its length that bfloat16 weights make of it."""
    draws = torch.Generator().manual_seed(seed)
    weight = torch.nn.Parameter(torch.randn(3000, generator=draws).bfloat16())
    optimizer = torch.optim.SGD([weight], lr=10**log_rate)
    probe = RoundingProbe([weight], optimizer)
    weight.grad = torch.randn(3000, generator=draws).bfloat16()
    start, asked = weight.detach().double(), 10**log_rate * weight.grad.double()
    optimizer.step()
    stayed = (weight.detach().double() == start).double()
    made = (weight.detach().double() - start).square().sum()
    assert probe.share.item() <= math.sqrt(made / (made + (asked * stayed).square().sum())) + 1e-6


def test_no_share_where_the_rate_is_zero(tmp_path):
    run = trainer(tmp_path, tiny.model(), warmup_steps=2, lr_scheduler_type="linear")
    run.train()
    assert len(logged(run, "surviving_share")) == 3


# --- computing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use_cpu", [{}, {"use_cpu": True}])
def test_bf16_works_on_a_processor_if_asked(tmp_path, use_cpu, monkeypatch):
    for devices in (torch.cuda, torch.accelerator):
        monkeypatch.setattr(devices, "is_available", lambda: False)
    config = UnlearningConfig(output_dir=str(tmp_path), bf16=True, **use_cpu)
    assert config.bf16 is True
    assert config.mixed_precision == "bf16"
    for setting in (None, False):
        assert UnlearningConfig(output_dir=str(tmp_path), bf16=setting).mixed_precision == "no"


def test_bf16_is_on_where_a_gpu_can(tmp_path, monkeypatch):
    from gru_unlearn.training import compute_type  # noqa: PLC0415

    class Config:
        use_cpu = False
        bf16 = None

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for can in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda can=can, **_: can)
        config = Config()
        compute_type.settle_compute_type(config)
        assert config.bf16 is can
        config.bf16 = False
        compute_type.settle_compute_type(config)
        assert config.bf16 is False
        config.bf16, config.use_cpu = None, True
        compute_type.settle_compute_type(config)
        assert config.bf16 is False


def test_false_holds_against_a_launcher(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert UnlearningConfig(output_dir=str(tmp_path), use_cpu=True).mixed_precision == "bf16"
    assert UnlearningConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False).mixed_precision == "no"
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(UserError, match="use bf16"):
        UnlearningConfig(output_dir=str(tmp_path), use_cpu=True)


def test_a_model_that_says_nothing_is_not_saved(tmp_path):
    run = trainer(tmp_path, tiny.model(), telemetry=False)
    with torch.no_grad():
        run.model.model.norm.weight.fill_(3e38)
    with pytest.raises(NonFiniteError, match="probability of forget answers is not a finite number"):
        run.evaluate()


# --- commands --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    for kind in TYPES:
        tiny.save(folder / kind)
        tiny.model().to(torch.bfloat16).to(torch.float16).to(getattr(torch, kind)).save_pretrained(folder / kind)
    for name, rows in (("forget", FORGET), ("retain", RETAIN)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def arguments(checkpoints, kind, out):
    return (
        *("unlearn", "--model", checkpoints / kind, "--forget", checkpoints / "forget.jsonl"),
        *("--retain", checkpoints / "retain.jsonl", "--max-steps", 3, "--warmup-steps", 0, "--report-examples", 0),
        *("--save-strategy", "no", "--output-dir", out, "--logging-steps", 1, "--use-cpu", "true"),
    )


def test_every_checkpoint_is_trained_in_float32(gru, checkpoints, tmp_path):
    saved = {}
    for kind in TYPES:
        assert stored_types(checkpoints / kind).keys() == {kind}
        code, printed, err = gru(*arguments(checkpoints, kind, tmp_path / kind))
        assert code == 0, err
        assert (f"stored as {kind}" in printed) == (kind != "float32")
        saved[kind] = load_file(tmp_path / kind / "model" / "model.safetensors")
        summary = json.loads((tmp_path / kind / "summary.json").read_text())
        assert summary["settings"]["dtype"] == "float32"
        assert summary["results"]["surviving_share"] > 0.99
        assert {value.dtype for value in saved[kind].values()} == {torch.float32}
    for name, value in saved["float32"].items():
        assert torch.equal(value, saved["bfloat16"][name])
        assert torch.equal(value, saved["float16"][name])


def test_a_retain_model_that_says_nothing_is_refused(gru, checkpoints, tmp_path):
    folder, model = tiny.save(tmp_path / "retain"), tiny.model()
    with torch.no_grad():
        model.model.norm.weight.fill_(3e38)
    model.save_pretrained(folder)
    code, _, err = gru(*arguments(checkpoints, "float32", tmp_path / "out"), "--retain-model", folder)
    assert code == 2
    assert "its probability of the forget answers is not a finite number" in err


def test_float16_is_refused_with_the_mend(gru, checkpoints, tmp_path):
    code, _, err = gru(*arguments(checkpoints, "float16", tmp_path / "out"), "--dtype", "float16")
    assert code == 2
    assert "float16 checkpoints are trained in float32" in err
    assert not (tmp_path / "out").exists()


def test_a_step_that_rounding_takes_is_told(gru, checkpoints, tmp_path):
    code, printed, _ = gru(*arguments(checkpoints, "float32", tmp_path / "out"), "--learning-rate", "1e-12")
    assert code == 0
    assert printed.count("survives rounding") == 1
    assert gru("report", tmp_path / "out")[0] == 0
    assert "that rounding to the weights&#39; type left, at least" in (tmp_path / "out" / "report.html").read_text()


# --- bfloat16 on processors that have it -----------------------------------------------------------------------------


@pytest.fixture
def processor(monkeypatch):
    """One with instructions for bfloat16, or without; every model is large enough for it."""

    def be(able):
        for module in (run_compute_type, run_precision):
            monkeypatch.setattr(module, "processor_computes_in_bfloat16", lambda: able)

    monkeypatch.setattr(run_compute_type, "LARGE", 1000)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    be(True)
    return be


def computed_in(folder):
    return json.loads((folder / "run.json").read_text()).get("computed_in")


def test_a_processor_that_can_computes_in_bfloat16(gru, checkpoints, tmp_path, processor):
    """With float32 weights, as if asked to; and one flag turns it off."""
    saved = {}
    changed = ("--stop-below-kept", 0)  # so tiny a model loses much in three steps: it is saved all the same
    for name, flags in {"chosen": [], "on": ["--bf16"], "off": ["--bf16", "false"]}.items():
        code, printed, err = gru(*arguments(checkpoints, "float32", tmp_path / name), *changed, *flags)
        assert code == 0, err
        assert ("float32 weights, computed with in bfloat16" in printed) == (name != "off")
        assert ("has instructions for it; --bf16 false turns it off" in printed) == (name == "chosen")
        assert json.loads((tmp_path / name / "summary.json").read_text())["settings"]["bf16"] is (name != "off")
        assert computed_in(tmp_path / name) == ("bfloat16" if name == "chosen" else None)
        saved[name] = load_file(tmp_path / name / "model" / "model.safetensors")
    assert {value.dtype for value in saved["chosen"].values()} == {torch.float32}
    assert all(torch.equal(value, saved["on"][name]) for name, value in saved["chosen"].items())
    assert not all(torch.equal(value, saved["off"][name]) for name, value in saved["chosen"].items())


def test_bfloat16_is_not_chosen_where_it_does_not_pay(gru, checkpoints, tmp_path, processor, monkeypatch):
    def is_chosen(name, kind, *flags):
        code, printed, err = gru(*arguments(checkpoints, kind, tmp_path / name), *flags, "--dry-run")
        assert code == 0, err
        return "computed with in bfloat16" in printed

    assert is_chosen("as stored", "bfloat16")
    assert is_chosen("below adapters", "bfloat16", "--use-peft", "--dtype", "float32")
    assert not is_chosen("steps that it would not see", "bfloat16", "--dtype", "float32")
    processor(False)
    assert not is_chosen("a processor without", "float32")
    processor(True)
    monkeypatch.setattr(run_compute_type, "LARGE", 30_000_000)
    assert not is_chosen("small", "float32")


@pytest.mark.parametrize("able", [True, False])
def test_a_run_goes_on_as_it_began_on_any_machine(gru, checkpoints, tmp_path, processor, able):
    _, *flags = arguments(checkpoints, "float32", tmp_path / "out")
    names = (str(flag).removeprefix("--").replace("-", "_") for flag in flags[::2])
    given = make_recipe(dict(zip(names, map(str, flags[1::2]), strict=True)))
    processor(able)
    with prepare(given).claim.held():
        assert (computed_in(tmp_path / "out") == "bfloat16") == able

    processor(not able)
    there = prepare(given)
    assert there.claim.resume
    assert there.recipe.config.bf16 is able
    assert ("as the run was started" in describe_precision(there)) == able
    assert prepare(given, overwrite=True).recipe.config.bf16 is not able
    code, printed, err = gru("unlearn", *flags)
    assert code == 0, err
    assert ("computed with in bfloat16" in printed) == able


def test_all_runs_of_a_comparison_compute_alike(checkpoints, tmp_path, processor):
    tiny.save(tmp_path / "retain", seed=1)
    shared = {
        "model": str(checkpoints / "float32"),
        "retain_model": str(tmp_path / "retain"),
        **{name: str(checkpoints / f"{name}.jsonl") for name in ("forget", "retain")},
    }
    matrix = Matrix(shared, ["npo"], ["gru"], {"npo": [1e-4]}, [0, 1], tmp_path / "out")
    assert [cell.like.get("computed_in") for cell in plan(matrix).cells] == ["bfloat16"] * 2
    processor(False)
    first, second = plan(matrix).cells
    assert "computed_in" not in first.like
    with plan(matrix).claim.held(), prepare(make_recipe(first.settings), like=first.like).claim.held():
        pass
    processor(True)  # the comparison goes on where there is a faster processor
    for cell in plan(matrix).cells:
        assert "computed_in" not in cell.like
        assert prepare(make_recipe(cell.settings), like=cell.like).recipe.config.bf16 is False
    assert plan(matrix, overwrite=True).cells[1].like["computed_in"] == "bfloat16"
    assert second.folder == matrix.cells[1].folder


def test_adapters_below_float16_are_merged_and_trained_in_float32(gru, checkpoints, tmp_path):
    for kind, expected in (("float16", "float32"), ("bfloat16", "auto")):
        out = tmp_path / kind
        code, _, err = gru(*arguments(checkpoints, kind, out), "--use-peft", "--learning-rate", "1e-3")
        assert code == 0, err
        assert json.loads((out / "summary.json").read_text())["settings"]["dtype"] == expected
        merged = load_model(out / "model")
        assert merged.dtype == torch.float32
        assert not torch.equal(tiny.weights(merged), tiny.weights(merged).bfloat16().float())
        assert load_model(out / "model", dtype="bfloat16").dtype == torch.bfloat16


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_tru_adds_task_vectors_in_float32(gru, checkpoints, tmp_path, kind):
    _, *given = arguments(checkpoints, kind, tmp_path / "out")
    skipped = {"--report-examples", "--save-strategy"}
    pairs = [given[i : i + 2] for i in range(0, len(given), 2)]
    flags = [part for pair in pairs if pair[0] not in skipped for part in pair]
    code, _, err = gru("tru", *flags, "--alpha", "1", "--alphas", "1", "--learning-rate", "1e-4")
    assert code == 0, err
    assert {value.dtype for value in load_file(tmp_path / "out" / "model" / "model.safetensors").values()} == {
        torch.float32
    }


# --- 16-bit checkpoints that are computed with in bfloat16 -----------------------------------------------------------


@pytest.mark.parametrize("kind", TYPES)
def test_narrow_checkpoints_keep_their_width_where_bfloat16_computes(gru, checkpoints, tmp_path, kind):
    code, printed, err = gru(*arguments(checkpoints, kind, tmp_path / "out"), "--bf16", "true")
    assert code == 0, err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    expected = "float32" if kind == "float32" else "bfloat16"
    assert summary["settings"]["dtype"] == expected
    assert ("their lower halves kept beside them" in printed) == (expected == "bfloat16")
    assert stored_types(tmp_path / "out" / "model").keys() == {expected}


def test_float32_weights_on_narrow_numbers_are_told(tmp_path):
    with pytest.warns(Notice, match="stand on numbers of 16 bits"):
        trainer(tmp_path, tiny.model().bfloat16().float(), bf16=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)
        trainer(tmp_path, tiny.model().bfloat16().float(), bf16=False)
        trainer(tmp_path, tiny.model(), bf16=True)
        trainer(tmp_path, tiny.model().bfloat16(), bf16=True)


def test_what_is_scored_before_the_first_step_is_computed_as_the_steps_are(tmp_path):
    model, types = tiny.model(), []
    model.lm_head.register_forward_hook(lambda _head, _inputs, logits: types.append(logits.dtype))
    options = {"objective": "npo", "rectification": "recommended", "retain_loss": "anchor"}
    trainer(tmp_path, model, max_steps=1, bf16=True, **options).train()
    rehearsed = 2 * 3  # each set's longest row, and twice to see whether the model looks ahead, in the weights' type
    assert len(types) > rehearsed
    assert set(types[rehearsed:]) == {torch.bfloat16}
