"""A run as a patch: the original with it is the run's model, without it itself again, and no other model takes it."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import ModelCard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import PeftModel
from rich.console import Console
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

import gguf_example
import tiny
from gru_unlearn.attacks.attack_request import AttackRequest
from gru_unlearn.attacks.battery import make_battery
from gru_unlearn.data import load_records
from gru_unlearn.models.gguf_files import from_gguf
from gru_unlearn.models.subject import Subject, find_subjects
from gru_unlearn.models.weights import hash_weights
from gru_unlearn.publishing import export_inputs, patch_effect
from gru_unlearn.publishing.patch_verdict import let_patch_speak, verdict_of_patch
from gru_unlearn.reporting.evidence import Evidence, Kept, Sample
from gru_unlearn.reporting.tables import shown
from gru_unlearn.results.patch_record import PatchedRows, PatchRecord
from gru_unlearn.results.row_examples import Seen
from gru_unlearn.results.verdict import Said
from gru_unlearn.runs.recipe import make_recipe
from gru_unlearn.runs.run_preparation import prepare
from gru_unlearn.runs.seen_rows import SeenRow
from gru_unlearn.runs.unlearn_job import unlearn
from gru_unlearn.task_vectors.low_rank import largest_rows, low_rank, squared_error

LORA = {"use_peft": True, "lora_r": 2, "lora_target_modules": "q_proj,v_proj", "learning_rate": 0.1}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Rows, and runs on originals of several kinds."""
    world = tmp_path_factory.mktemp("patches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRU_UNLEARN_CACHE", str(world / "cache"))
        for name, rows in (("forget", tiny.rows(6)), ("retain", tiny.rows(12, start=6))):
            (world / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        tiny.save(world / "original")
        tiny.save(world / "other", seed=3)
        run(world, "full")
        run(world, "lora", **LORA)
        yield world


@pytest.fixture(autouse=True)
def _own_cache(world, monkeypatch):
    monkeypatch.setenv("GRU_UNLEARN_CACHE", str(world / "cache"))


def run(world, name, original=None, **more):
    words = {
        "model": original or world / "original", "forget": world / "forget.jsonl", "retain": world / "retain.jsonl",
        "max_steps": 6, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "learning_rate": 5e-3,
        "warmup_steps": 0, "use_cpu": True, "output_dir": world / name,
    }  # fmt: skip
    given = {key: str(value) if isinstance(value, Path) else value for key, value in (words | more).items()}
    unlearn(prepare(make_recipe(given)), Console(quiet=True))
    return world / name


def patch_of(gru, run, out, *flags):
    code, printed, err = gru("export", run, "--patch", "--anyway", "--out", out, *flags)
    assert code == 0, err
    return json.loads((out / "summary.json").read_text())["patch"], printed


def logps(model, tokens=range(6, 26)):
    with torch.no_grad():
        return model.eval()(torch.tensor([list(tokens)])).logits.float().log_softmax(-1)


def of_answers(world, model):
    """Log-probabilities of the forget rows' answers, one row after the other, by the plainest loop."""
    encoder = find_subjects({}, model=str(world / "full" / "model"))["model"].encoder
    found = []
    for example in encoder.encode_all(load_records(str(world / "forget.jsonl")), "forget"):
        ids, labels = torch.tensor(example["input_ids"]), torch.tensor(example["labels"])
        with torch.no_grad():
            scores = model.eval()(ids[None]).logits[0, :-1].log_softmax(-1).gather(1, ids[1:, None])[:, 0]
        found.append(scores[labels[1:] != -100])
    return torch.cat(found)


def load(folder, dtype=torch.float32):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)


def names_in(folder):
    return set(load_file(folder / "adapter_model.safetensors"))


# --- factors ---------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 24), st.floats(0, 2), st.integers(0, 5))
def test_factors_are_as_near_as_the_whole_decomposition_has_it(rows, columns, rank, decay, seed):
    """Over shapes and over spectra, from flat to steep."""
    generator = torch.Generator().manual_seed(seed)
    left, _ = torch.linalg.qr(torch.randn(rows, min(rows, columns), generator=generator))
    right, _ = torch.linalg.qr(torch.randn(columns, min(rows, columns), generator=generator))
    values = (1.0 + torch.arange(min(rows, columns))) ** -decay
    matrix = (left * values) @ right.T
    near = low_rank(matrix, rank)
    assert (near.up.shape, near.down.shape) == ((rows, rank), (rank, columns))
    best = float(values[rank:].square().sum())
    assert squared_error(matrix, near) <= 1.05 * best + 1e-9
    if rank >= min(rows, columns):
        assert torch.equal(near.matrix, matrix)


def test_factors_are_the_same_at_every_call_and_other_random_numbers_are_left_alone():
    matrix = torch.randn(200, 150, generator=torch.Generator().manual_seed(1))
    state = torch.get_rng_state()
    one, other = low_rank(matrix, 4), low_rank(matrix, 4)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.up, other.up)
    assert torch.equal(one.down, other.down)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 40), st.floats(0, 0.9), st.integers(0, 5))
def test_rows_are_as_few_as_keep_the_error(count, error, seed):
    change = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)) * torch.arange(count)[:, None]
    rows = largest_rows(change, error)
    energy = change.double().square().sum(1)
    left = energy.sum() - energy[rows].sum()
    assert left <= error**2 * energy.sum() + 1e-9
    if len(rows) > 0 and error:  # without the smallest of them it would not be kept
        assert left + energy[rows].min() >= error**2 * energy.sum() - 1e-9
    assert rows.tolist() == sorted(set(rows.tolist()))


# --- the original with the patch -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--patch-rank", "6"),
        tiny.seldom(("--patch-error", "0.05")),
        tiny.seldom(("--patch-parts", "all")),
    ],
)
def test_the_original_with_a_patch_is_the_runs_model_within_what_was_printed(gru, world, tmp_path, flags):
    patch, printed = patch_of(gru, world / "full", tmp_path / "patch", *flags)
    said = patch["rows"]["forget"]
    assert said["left"] < 0.2 * said["effect"]
    assert f"{said['left']:.2g} on average, {said['largest']:.2g} at most" in printed
    patched = PeftModel.from_pretrained(load(world / "original"), tmp_path / "patch")
    runs, original = load(world / "full" / "model"), load(world / "original")
    change = (of_answers(world, patched) - of_answers(world, runs)).abs()
    effect = (of_answers(world, original) - of_answers(world, runs)).abs()
    assert [said["tokens"], said["left"], said["largest"], said["effect"]] == pytest.approx(
        [len(change), float(change.mean()), float(change.max()), float(effect.mean())], rel=1e-3
    )
    with patched.disable_adapter():
        assert torch.equal(logps(patched), logps(load(world / "original")))


def as_far_as_carried(original, runs):
    """The original with the run's matrices: norms, biases and learned positions are what a patch cannot carry."""
    state = runs.state_dict()
    for name, tensor in original.state_dict().items():
        if tensor.ndim != 2 or "wpe" in name:
            state[name] = tensor
    runs.load_state_dict(state)
    return runs


def test_an_error_that_allows_nothing_carries_every_matrix_as_it_is(gru, world, tmp_path):
    patch, _ = patch_of(gru, world / "full", tmp_path / "patch", "--patch-error", "1e-6", "--patch-parts", "all")
    assert patch["error"] < 1e-6
    expected = as_far_as_carried(load(world / "original"), load(world / "full" / "model"))
    merged = PeftModel.from_pretrained(load(world / "original"), tmp_path / "patch").merge_and_unload()
    torch.testing.assert_close(logps(merged), logps(expected), atol=2e-4, rtol=0)


def test_a_stated_rank_is_the_rank_of_every_factor_and_the_error_is_the_exact_one(gru, world, tmp_path):
    """One rank and α for all layers: vLLM takes one scale for all of them, and a GGUF adapter has one α."""
    patch, _ = patch_of(gru, world / "full", tmp_path / "patch", "--patch-rank", "9")
    config = json.loads((tmp_path / "patch" / "adapter_config.json").read_text())
    assert (patch["rank"], config["r"], config["lora_alpha"]) == (9, 9, 9)
    assert (config["rank_pattern"], config["alpha_pattern"], config["modules_to_save"]) == ({}, {}, None)
    tensors = load_file(tmp_path / "patch" / "adapter_model.safetensors")
    assert {9} == {tensor.shape[0] for name, tensor in tensors.items() if "lora_A" in name}
    before, after = load(world / "original").state_dict(), load(world / "full" / "model").state_dict()
    whole, left = 0.0, 0.0
    for name in before:
        if "proj" in name:
            values = torch.linalg.svdvals(after[name] - before[name]).square()
            whole, left = whole + float(values.sum()), left + float(values[9:].sum())
    assert patch["error"] == pytest.approx((left / whole) ** 0.5, rel=1e-3)


def test_adapters_are_their_own_patch(gru, world, tmp_path):
    patch, printed = patch_of(gru, world / "lora", tmp_path / "patch")
    assert (patch["exact"], patch["rank"], patch["error"]) == (True, 2, 0.0)
    assert "the adapters that the run trained" in printed
    own = load_file(world / "lora" / "model" / "adapter_model.safetensors")
    published = load_file(tmp_path / "patch" / "adapter_model.safetensors")
    assert own.keys() == published.keys()
    assert all(torch.equal(own[name], published[name]) for name in own)
    assert patch["rows"]["forget"]["largest"] < 1e-4 < patch["rows"]["forget"]["effect"]


def test_layers_alone_are_what_other_programs_load(gru, world, tmp_path):
    """Nothing but A and B of linear layers, where that carries enough; else it is refused."""
    frozen = run(world, "no-embeddings", trainable_params=r".*_proj\.weight")
    patch, printed = patch_of(gru, frozen, tmp_path / "patch")
    assert "vLLM (--enable-lora --max-lora-rank" in printed
    assert "embedding_rows" not in patch
    assert {name.rpartition(".lora_")[2] for name in names_in(tmp_path / "patch")} == {"A.weight", "B.weight"}
    config = json.loads((tmp_path / "patch" / "adapter_config.json").read_text())
    assert set(config["target_modules"]) == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    }  # fmt: skip


def test_embeddings_that_matter_are_carried_or_the_patch_is_refused(gru, world, tmp_path):
    only = run(world, "embeddings", trainable_params=r".*(embed_tokens|layers\.0\.self_attn\.q_proj)\.weight")
    patch, printed = patch_of(gru, only, tmp_path / "patch")
    assert patch["embedding_rows"] > 0
    assert "Only PEFT and gru load it" in printed
    config = json.loads((tmp_path / "patch" / "adapter_config.json").read_text())
    assert config["target_modules"] == ["model.layers.0.self_attn.q_proj"]
    code, _, err = gru("export", only, "--patch", "--anyway", "--out", tmp_path / "again", "--patch-parts", "linear")
    assert (code, err.count("\n")) == (2, 1)
    assert "its embeddings are left out: pass --patch-parts all" in err
    assert not (tmp_path / "again").exists()


def test_the_verdict_on_a_patch_is_its_own(gru, world, tmp_path):
    frozen = run(world, "whose-verdict", trainable_params=r".*_proj\.weight")
    patch, printed = patch_of(gru, frozen, tmp_path / "patch")
    forget = patch["rows"]["forget"]
    words = "The verdict is of the original with the patch, asked for 6 answers to forget rows. It was not attacked."
    card = (tmp_path / "patch" / "README.md").read_text()
    assert (forget["said"]["asked"], forget["said_before"]["asked"]) == (6, 6)
    assert words in " ".join(printed.split())
    verdict = card.partition("## Verdict")[2].partition("What it does not")[0]
    assert words in verdict
    assert f"{shown(forget['original'])} → {shown(forget['patched'])}" in verdict
    measured = card.partition("## What was measured")[2]
    assert f"| forget probability | {shown(forget['original'])} | {shown(forget['patched'])} |" in measured
    summary = json.loads((tmp_path / "patch" / "summary.json").read_text())
    assert summary["attacks"] == []


def some_rows(original, patched, **more):
    return PatchedRows(
        rows=9, tokens=9, original=original, run=0.1, patched=patched, effect=1, left=0, largest=0, **more
    )


@pytest.mark.parametrize(("patched", "recited", "answer"), [(0.1, 0, "yes"), (0.1, 7, "no"), (0.8, 0, "no")])
def test_a_patch_is_judged_by_its_own_answers_whatever_the_run_forgot(patched, recited, answer):
    """The run's model had forgotten all."""
    said, before = Said(asked=9, word_for_word=recited, broken=0), Said(asked=9, word_for_word=9, broken=0)
    rows = {"forget": some_rows(0.9, patched, said=said, said_before=before), "retain": some_rows(0.8, 0.3)}
    patch = PatchRecord(exact=False, rank=1, error=0, rows=rows, weight_files=[])
    of_run = Evidence(0.9, 0.1, 0.1, 0.9, 9, Said(asked=9, word_for_word=0), kept={"retain": Kept(0.8, 0.8, rmf=1.0)})
    verdict = verdict_of_patch(patch, of_run, {"forget": 9, "retain": 9})
    assert (verdict.forgotten, verdict.kept, verdict.stays_gone) == (answer, "no", "unknown")


@pytest.mark.parametrize("sizes", [{"forget": 9, "retain": 9}, {"forget": 12, "retain": 200}])
def test_a_patch_names_its_own_sample_and_not_the_runs(sizes):
    rows = {"forget": some_rows(0.9, 0.1), "retain": some_rows(0.8, 0.8)}
    patch = PatchRecord(exact=False, rank=1, error=0, rows=rows, weight_files=[])
    kept = {"retain": Kept(0.8, 0.8, sample=Sample(7, 200))}
    of_run = Evidence(0.9, 0.1, 0.1, rows=12, kept=kept, sample=Sample(7, 12))
    verdict = verdict_of_patch(patch, of_run, sizes)
    told = " ".join([verdict.sentence, *verdict.numbers])
    assert "7 of" not in told
    for size in sizes.values():
        assert (f"9 of {size} looked at" in told) == (size > 9)


def test_that_the_runs_own_model_was_brought_back_is_not_kept_from_who_gets_the_patch():
    rows = {"forget": some_rows(0.9, 0.1), "retain": some_rows(0.8, 0.8)}
    patch = PatchRecord(exact=False, rank=1, error=0, rows=rows, weight_files=[])
    of_run = Evidence(0.9, 0.1, 0.1, rows=9, kept={"retain": Kept(0.8, 0.8)})
    same = verdict_of_patch(patch, of_run, {"forget": 9, "retain": 9})
    summary = SimpleNamespace(verdict=same, attacks=[], metrics=[])
    let_patch_speak(summary, patch, of_run, {"forget": 9, "retain": 9})
    assert patch.run_verdict is None
    summary.verdict = same.model_copy(update={"stays_gone": "no", "sentence": "It came back."})
    let_patch_speak(summary, patch, of_run, {"forget": 9, "retain": 9})
    assert (patch.run_verdict, summary.verdict.stays_gone) == ("It came back.", "unknown")


def test_a_patch_that_still_knows_the_rows_is_refused(gru, world, tmp_path, monkeypatch):
    """Although the run's model has forgotten them."""
    monkeypatch.setattr(export_inputs, "_refuse_what_is_not_forgotten", lambda *_: None)
    flags = "export", world / "full", "--patch", "--out", tmp_path / "patch"
    knows = replace_answers(monkeypatch)
    code, _, err = gru(*flags)
    assert (code, err.count("\n")) == (2, 1)
    assert "the patch is not exported: " in err
    assert "--anyway exports it" in err
    assert knows
    assert not (tmp_path / "patch").exists()
    patch, printed = patch_of(gru, world / "full", tmp_path / "patch")
    assert "The run's own model is judged otherwise: " + patch["run_verdict"] in " ".join(printed.split())


def test_the_original_is_not_loaded_again_to_be_asked(gru, world, tmp_path, monkeypatch):
    """What carries the patch answers without it, too."""
    loaded, load = [], Subject.load
    monkeypatch.setattr(Subject, "load", lambda self, *given: loaded.append(self.label) or load(self, *given))
    patch_of(gru, world / "full", tmp_path / "patch")
    assert (loaded.count("run"), loaded.count("original")) == (1, 1)


def replace_answers(monkeypatch):
    """All models of a patch say every answer word for word."""
    calls = []

    def knowing(model, encoder, sets, **_):
        calls.append(sets)
        return {
            name: [SeenRow(Seen(says=row.answer), row.prompt, row.answer) for row in records]
            for name, records in sets.items()
        }

    monkeypatch.setattr(patch_effect, "see_rows", knowing)
    return calls


def test_an_evaluation_of_the_runs_model_is_none_of_the_patch(gru, world, tmp_path):
    flags = "--patch", "--anyway", "--evaluation", tmp_path, "--out", tmp_path / "out"
    code, _, err = gru("export", world / "full", *flags)
    assert (code, err.count("\n")) == (2, 1)
    assert "ask the patch itself (gru evaluate --model PATCH)" in err


def test_a_run_that_changed_nothing_has_no_patch(gru, world, tmp_path):
    kept = run(world, "unchanged", eval_strategy="steps", eval_steps=1, eval_on_start=True, stop_at_forget_prob=0.99)
    code, _, err = gru("export", kept, "--patch", "--anyway", "--out", tmp_path / "out")
    assert (code, err.count("\n")) == (2, 1)
    assert f"--patch: {kept / 'model'} holds its original unchanged: there is nothing to patch" in err
    assert not (tmp_path / "out").exists()


def test_a_rank_above_that_of_every_layer_is_refused_before_the_work(gru, world, tmp_path):
    code, printed, err = gru("export", world / "full", "--patch", "--anyway", "--patch-rank", "9999", "--out",
                             tmp_path / "out")  # fmt: skip
    model = load(world / "original")
    largest = max(min(module.weight.shape) for module in model.modules() if isinstance(module, torch.nn.Linear))
    assert (code, err.count("\n")) == (2, 1)
    assert f"--patch-rank 9999: no linear layer has a rank above {largest}: pass that or less" in err
    assert "Scoring" not in printed
    patch, _ = patch_of(gru, world / "full", tmp_path / "out", "--patch-rank", largest)
    assert patch["error"] < 1e-6


def test_adapters_are_the_runs_model_and_its_verdict_theirs(gru, world, tmp_path):
    patch, printed = patch_of(gru, world / "lora", tmp_path / "patch")
    assert "The verdict is of" not in printed
    assert "said" not in patch["rows"]["forget"]


# --- originals of other kinds ----------------------------------------------------------------------------------------


def untied(folder):
    model = tiny.model()
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone() * 0.9)
    model.save_pretrained(folder)


def in_bfloat16(folder):
    tiny.model().to(torch.bfloat16).save_pretrained(folder)


def in_shards(folder):
    tiny.model().save_pretrained(folder, max_shard_size="8KB")


def with_conv1d(folder):
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=48, n_embd=16, n_layer=2, n_head=2, n_positions=128, initializer_range=0.2)
    GPT2LMHeadModel(config).save_pretrained(folder)


@pytest.mark.parametrize("make", [tiny.seldom(untied), in_bfloat16, tiny.seldom(in_shards), with_conv1d])
def test_originals_of_every_kind(gru, world, tmp_path, make):
    original = tmp_path / "original"
    make(original)
    tiny.tokenizer().save_pretrained(original)
    of_it = run(world, f"of-{make.__name__}", original)
    patch, _ = patch_of(gru, of_it, tmp_path / "patch", "--patch-parts", "all", "--patch-error", "1e-6")
    expected = as_far_as_carried(load(original), load(of_it / "model"))
    patched = PeftModel.from_pretrained(load(original), tmp_path / "patch")
    torch.testing.assert_close(logps(patched), logps(expected), atol=2e-4, rtol=0)
    with patched.disable_adapter():
        assert torch.equal(logps(patched), logps(load(original)))
    assert patch["rows"]["forget"]["left"] < 0.2 * patch["rows"]["forget"]["effect"]


def test_a_gguf_file_as_original(gru, world, tmp_path):
    file = gguf_example.write(tmp_path / "tiny.gguf", gguf_example.model(), "F16")
    of_it = run(world, "of-gguf", file)
    patch, _ = patch_of(gru, of_it, tmp_path / "patch", "--patch-parts", "all", "--patch-error", "0.05")
    assert patch["rows"]["forget"]["left"] < 0.2 * patch["rows"]["forget"]["effect"]
    original = from_gguf(file, "it")
    patched = PeftModel.from_pretrained(load(original), tmp_path / "patch")
    effect = (logps(load(original)) - logps(load(of_it / "model"))).abs().mean()
    assert (logps(patched) - logps(load(of_it / "model"))).abs().mean() < 0.2 * effect


def test_adapters_as_original_are_replaced_by_the_patch(gru, world, tmp_path):
    """It goes on their base, because nothing loads adapters on adapters."""
    of_it = run(world, "of-adapters", world / "lora" / "model")
    patch, _ = patch_of(gru, of_it, tmp_path / "patch", "--patch-parts", "all", "--patch-error", "0.05")
    summary = json.loads((tmp_path / "patch" / "summary.json").read_text())
    assert summary["base"]["sha256"] == hash_weights(world / "original")
    patched = PeftModel.from_pretrained(load(world / "original"), tmp_path / "patch")
    change = (logps(patched) - logps(load(of_it / "model"))).abs().mean()
    assert change < 0.2 * (logps(load(world / "original")) - logps(load(of_it / "model"))).abs().mean()
    assert patch["rows"]["forget"]["left"] < 0.2 * patch["rows"]["forget"]["effect"]


# --- where it belongs ------------------------------------------------------------------------------------------------


def test_our_own_commands_find_the_original_of_a_patch_and_refuse_another(gru, world, tmp_path):
    patch_of(gru, world / "full", tmp_path / "patch", "--patch-parts", "all", "--patch-error", "0.05")
    rows = ("--suite", "own", "--forget", world / "forget.jsonl", "--retain", world / "retain.jsonl")
    found = []
    for number, model in enumerate((tmp_path / "patch", world / "full")):
        code, _, err = gru("evaluate", *rows, "--model", model, "--out", tmp_path / f"evaluation-{number}")
        assert code == 0, err
        summary = json.loads((tmp_path / f"evaluation-{number}" / "summary.json").read_text())
        found.append(summary["metrics"]["forget_Q_A_Prob"])
    assert found[0] == pytest.approx(found[1], rel=0.05)
    file = tmp_path / "patch" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": str(world / "other")}))
    jobs = (
        ("evaluate", *rows, "--model", tmp_path / "patch"),
        ("attack", world / "full", "--model", tmp_path / "patch", "--attacks", "sampling"),
        ("unlearn", "--model", tmp_path / "patch", *rows[2:], "--use-cpu"),
    )
    for number, job in enumerate(jobs):
        place = "--output-dir" if job[0] == "unlearn" else "--out"
        code, _, err = gru(*job, place, tmp_path / f"refused-{number}")
        assert (code, err.count("\n")) == (2, 1), err
        assert "a patch of the model with the SHA-256" in err
        assert not (tmp_path / f"refused-{number}").exists()


def test_without_a_note_of_its_original_a_patch_asks_for_it(gru, world, tmp_path, monkeypatch):
    patch_of(gru, world / "lora", tmp_path / "patch")
    monkeypatch.setenv("GRU_UNLEARN_CACHE", str(tmp_path / "elsewhere"))
    rows = ("--suite", "own", "--forget", world / "forget.jsonl", "--retain", world / "retain.jsonl")
    code, _, err = gru("evaluate", *rows, "--model", tmp_path / "patch", "--out", tmp_path / "out")
    assert (code, err.count("\n")) == (2, 1)
    assert "names no base model: write its folder or hub id there" in err


def test_the_card_tells_what_the_patch_belongs_to_and_names_no_folder(gru, world, tmp_path):
    patch, _ = patch_of(gru, world / "full", tmp_path / "patch")
    card = ModelCard.load(tmp_path / "patch" / "README.md")
    assert (card.data.library_name, card.data.tags) == ("peft", ["unlearning", "gru-unlearn"])
    assert patch["weight_files"][0] in card.text
    assert hash_weights(world / "original")[:12] in card.text
    assert f"Patch: rank {patch['rank']}; of the change" in card.text
    written = "".join(file.read_text(errors="replace") for file in (tmp_path / "patch").iterdir())
    assert str(world) not in written


def test_what_is_not_forgotten_is_no_patch_unless_on_purpose(gru, world, tmp_path):
    shutil.copytree(world / "full", tmp_path / "run")
    (tmp_path / "run" / "examples.json").unlink()
    run = json.loads((tmp_path / "run" / "summary.json").read_text())
    for measured in (run["trajectory"][0], run["trajectory"][-1], run["results"]):
        measured["forget_prob"] = 0.9
    run["results"]["forget_target"] = 0.1
    (tmp_path / "run" / "summary.json").write_text(json.dumps(run))
    code, _, err = gru("export", tmp_path / "run", "--patch", "--out", tmp_path / "out")
    assert (code, "--anyway" in err, err.count("\n")) == (2, True, 1)
    patch_of(gru, tmp_path / "run", tmp_path / "out")


@pytest.mark.parametrize(
    ("run", "flags", "says"),
    [
        ("full", ("--patch-rank", "4"), "go with --patch"),
        ("full", ("--patch", "--merge"), "are for whole models"),
        ("full", ("--patch", "--dtype", "bfloat16"), "are for whole models"),
        ("full", ("--patch", "--patch-rank", "4", "--patch-error", "0.1"), "pass one of them"),
        ("full", ("--patch", "--patch-rank", "0"), "--patch-rank must be at least 1"),
        ("full", ("--patch", "--patch-error", "1"), "--patch-error must be between 0 and 1"),
        ("full", ("--patch", "--patch-parts", "some"), "must be one of auto, linear, all"),
        ("lora", ("--patch", "--patch-rank", "4"), "trained adapters, which are its patch"),
    ],
)
def test_flags_that_do_not_go_together(gru, world, tmp_path, run, flags, says):
    code, _, err = gru("export", world / run, "--anyway", "--out", tmp_path / "out", *flags)
    assert (code, err.count("\n")) == (2, 1)
    assert says in err


def test_a_rank_that_undoes_the_unlearning_is_refused(gru, world, tmp_path):
    code, _, err = gru("export", world / "full", "--patch", "--anyway", "--patch-rank", "1", "--out", tmp_path / "out")
    assert (code, err.count("\n")) == (2, 1)
    assert "undone, and 20% is accepted: pass a larger --patch-rank" in err
    assert not (tmp_path / "out").exists()


def test_rows_that_a_run_found_itself_move_with_its_folder(gru, world, tmp_path):
    """Both a patch and an attack read them beside the run, wherever that is."""
    every = [json.loads(line) for name in ("forget", "retain") for line in (world / f"{name}.jsonl").open()]
    (world / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in every))
    parted = run(world, "parted", retain=None, train_rows=world / "all.jsonl")
    moved = shutil.move(parted, tmp_path / "moved")
    patch, _ = patch_of(gru, moved, tmp_path / "patch", "--patch-parts", "all")
    found = load_records(str(moved / "retain_part.jsonl"))
    assert patch["rows"]["retain"]["rows"] == len(found)
    assert make_battery(AttackRequest(run=moved)).sets["retain"] == found
    (moved / "retain_part.jsonl").unlink()
    code, _, err = gru("attack", moved, "--attacks", "quantization")
    assert (code, err.count("\n")) == (2, 1)
    assert "retain_part.jsonl: no such file" in err


def test_rows_that_changed_since_are_found_before_the_work(gru, world, tmp_path):
    shutil.copytree(world / "full", tmp_path / "run")
    shutil.copy(world / "forget.jsonl", tmp_path / "forget.jsonl")
    file = tmp_path / "run" / "summary.json"
    summary = json.loads(file.read_text())
    summary["data"]["forget"]["source"] = str(tmp_path / "forget.jsonl")
    file.write_text(json.dumps(summary))
    with (tmp_path / "forget.jsonl").open("a") as rows:
        rows.write(json.dumps(tiny.rows(1, start=30)[0]) + "\n")
    code, _, err = gru("export", tmp_path / "run", "--patch", "--anyway", "--out", tmp_path / "out")
    assert (code, err.count("\n")) == (2, 1)
    assert "does not hold the forget rows of the run any more" in err
