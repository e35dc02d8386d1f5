"""What a run asks of its models before anything long: positions, embeddings, modules, a forward pass, packages."""

import json

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import tiny
from gru_unlearn.common.modules import input_embeddings, positions
from gru_unlearn.data import Encoder, to_record
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation.generation import continuations
from gru_unlearn.evaluation.scoring import score
from gru_unlearn.evaluation.suites import own
from gru_unlearn.models.loading import empty_model
from gru_unlearn.training.longest_rows import try_longest_rows

FAST = ["--max-steps", "1", "--per-device-train-batch-size", "2", "--gradient-accumulation-steps", "1", "--use-cpu"]


def write(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


def edit(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def world(tmp_path):
    tiny.save(tmp_path / "model")
    write(tmp_path / "forget.jsonl", tiny.rows(4))
    write(tmp_path / "retain.jsonl", tiny.rows(4, start=6))
    return tmp_path


def unlearn(gru, world, *flags):
    rows = ["--forget", world / "forget.jsonl", "--retain", world / "retain.jsonl"]
    return gru("unlearn", "--model", world / "model", *rows, *FAST, "--output-dir", world / "run", *flags)


def refused(gru, world, *flags):
    """The one line in which a dry run and a real one both refuse."""
    dry = unlearn(gru, world, *flags, "--dry-run")
    real = unlearn(gru, world, *flags)
    for code, _, err in (dry, real):
        assert (code, err.count("\n")) == (2, 1), err
    assert dry[2] == real[2]
    assert not (world / "run" / "model").exists()
    return dry[2]


def gpt2(folder, places=16):
    config = transformers.GPT2Config(
        vocab_size=48, n_positions=places, n_embd=16, n_layer=2, n_head=2, bos_token_id=2, eos_token_id=1
    )
    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)


# --- positions -------------------------------------------------------------------------------------------------------

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 48}
GPT = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 48}
OPT = {"hidden_size": 16, "word_embed_proj_dim": 16, "ffn_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
ARCHITECTURES = {
    "gpt2": ({"n_positions": 64, **GPT}, 64),
    "gpt_bigcode": ({"n_positions": 64, **GPT}, 64),
    "openai-gpt": ({"n_positions": 64, **GPT}, 64),
    "gptj": ({"n_positions": 64, "rotary_dim": 8, **GPT}, 64),
    "opt": ({"max_position_embeddings": 64, "vocab_size": 48, **OPT}, 64),
    "biogpt": ({"max_position_embeddings": 64, "intermediate_size": 16, **SMALL}, 64),
    "roberta": ({"max_position_embeddings": 64, "is_decoder": True, "intermediate_size": 16, **SMALL}, 62),
    "xglm": (
        {"max_position_embeddings": 64, "d_model": 16, "num_layers": 1, "attention_heads": 2, "ffn_dim": 16},
        None,
    ),
    "llama": ({"max_position_embeddings": 64, "intermediate_size": 16, **SMALL}, None),
    "llama with as many words": ({"max_position_embeddings": 48, "intermediate_size": 16, **SMALL}, None),
    "gpt_neox": ({"max_position_embeddings": 64, "intermediate_size": 16, **SMALL}, None),
    "bloom": ({"hidden_size": 16, "n_layer": 1, "n_head": 2, "vocab_size": 48}, None),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_positions_are_as_many_as_the_model_really_has(name):
    settings, expected = ARCHITECTURES[name]
    config = transformers.AutoConfig.for_model(name.split()[0], **settings)
    with torch.device("meta"):
        assert positions(AutoModelForCausalLM.from_config(config)) == expected
    model = AutoModelForCausalLM.from_config(config).eval()
    model(torch.full((1, expected or 100), 5), use_cache=False)
    if expected:
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.full((1, expected + 1), 5), use_cache=False)


def test_rows_longer_than_learned_positions_are_refused(gru, world):
    gpt2(world / "model", places=8)
    line = refused(gru, world)
    assert "forget: the longest row has 16 tokens, and the model has positions for 8 only: pass --max-length 8" in line


def test_so_are_windows_of_plain_text(gru, world):
    gpt2(world / "model", places=8)
    write(world / "forget.jsonl", [{"text": "Ada lives in the red one . " * 4}])
    assert "forget: the longest row has" in refused(gru, world)
    write(world / "retain.jsonl", [{"text": "Bob lives in the red one . " * 4}])
    assert unlearn(gru, world, "--max-length", "8", "--dry-run")[0] == 0


def test_generation_ends_where_positions_do(gru, world):
    gpt2(world / "model", places=16)
    code, _, err = unlearn(gru, world, "--max-length", "512", "--eval-suite", "own")
    assert code == 0, err
    model = AutoModelForCausalLM.from_pretrained(world / "model").eval()
    encoder = Encoder(tiny.tokenizer())
    prompt = encoder.prompt_ids(to_record(tiny.rows(1)[0], ""))
    assert len(continuations(model, encoder, [prompt], [100], 1)) == 1


LONG = "lives in the red one . " * 6


def test_alternatives_longer_than_learned_positions_are_refused(gru, world):
    gpt2(world / "model", places=20)
    write(world / "forget.jsonl", [row | {"alternate": LONG} for row in tiny.rows(4)])
    assert unlearn(gru, world, "--dry-run")[0] == 0  # nobody reads them
    line = refused(gru, world, "--objective", "dpo")
    assert "forget (alternatives): the longest row has" in line
    assert "positions for 20 only: pass --max-length 20" in line
    flags = ["--objective", "dpo", "--max-length", "20", "--allow-truncation"]
    assert unlearn(gru, world, *flags)[0] == 0


@pytest.mark.parametrize("objective", ["idk", "dpo"])
def test_so_are_builtin_answers(gru, world, objective):
    gpt2(world / "model", places=16)
    assert unlearn(gru, world, "--dry-run")[0] == 0
    assert "forget (alternatives): the longest row has" in refused(gru, world, "--objective", objective)


def test_so_are_rows_that_only_a_suite_reads(gru, world):
    gpt2(world / "model", places=20)
    write(world / "forget.jsonl", [row | {"paraphrased_answer": LONG} for row in tiny.rows(4)])
    assert unlearn(gru, world, "--dry-run")[0] == 0
    line = refused(gru, world, "--eval-suite", "own")
    assert "suite own, forget: the longest row has" in line
    assert "positions for 20 only: pass --max-length 20" in line
    assert unlearn(gru, world, "--eval-suite", "own", "--max-length", "20", "--allow-truncation", "--dry-run")[0] == 0


def test_so_are_rows_of_an_evaluation(gru, world, monkeypatch):
    monkeypatch.setenv("GRU_UNLEARN_CACHE", str(world / "cache"))
    gpt2(world / "model", places=20)
    flags = ["--suite", "own", "--model", world / "model", "--retain", world / "retain.jsonl", "--out", world / "out"]
    for row in ({"question": "who is Dan ?", "answer": LONG}, {"text": LONG}):
        write(world / "forget.jsonl", [row])
        code, _, err = gru("evaluate", *flags, "--forget", world / "forget.jsonl")
        assert (code, err.count("\n")) == (2, 1), err
        assert "forget: the longest row has" in err
        assert "the model has positions for 20 only: pass --max-length 20" in err
        assert not (world / "out").exists()


def test_scoring_and_generation_refuse_what_has_no_room(world):
    gpt2(world / "model", places=16)
    model, encoder = AutoModelForCausalLM.from_pretrained(world / "model").eval(), Encoder(tiny.tokenizer())
    row = to_record({"question": "who is Dan ?", "answer": LONG}, "")
    with pytest.raises(UserError, match=r"forget: the longest row has .* positions for 16 only"):
        score(model, encoder, own([row], []))
    with pytest.raises(UserError, match="prompts: the longest row has 17 tokens"):
        continuations(model, encoder, [[5], [5] * 17], [3, 3], 2)
    with pytest.raises(UserError, match=r"prompts: token 48 .* has no embedding"):
        continuations(model, encoder, [[48]], [3], 1)


# --- adapters --------------------------------------------------------------------------------------------------------


def put_adapters(world, tokenizer=None):
    """Adapters in the place of the model, which becomes their base; returns how many parameters the base has."""
    base = (world / "model").rename(world / "base")
    model = AutoModelForCausalLM.from_pretrained(base)
    count = model.num_parameters()
    modules = "c_attn" if model.config.model_type == "gpt2" else "q_proj"
    get_peft_model(model, LoraConfig(r=2, target_modules=[modules], task_type="CAUSAL_LM")).save_pretrained(
        world / "model"
    )
    (tokenizer or tiny.tokenizer()).save_pretrained(world / "model")
    return count


def test_a_dry_run_on_adapters_looks_at_their_base(gru, world):
    count = put_adapters(world)
    code, out, err = unlearn(gru, world, "--dry-run")
    assert code == 0, err
    assert f"({count / 1e6:.1f} M parameters)" in out
    assert "matches no parameter" in refused(gru, world, "--trainable-params", "nope")


def test_rows_longer_than_the_positions_below_adapters_are_refused(gru, world):
    gpt2(world / "model", places=8)
    put_adapters(world)
    assert "forget: the longest row has 16 tokens, and the model has positions for 8 only" in refused(gru, world)


def test_tokens_that_came_with_adapters_have_room(world):
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens([f"word{number}" for number in range(40)])
    put_adapters(world, tokenizer)
    assert len(input_embeddings(empty_model(world / "model"))) == len(tokenizer)


# --- embeddings and padding ------------------------------------------------------------------------------------------


def test_a_token_without_an_embedding_is_refused(gru, world):
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens([f"word{number}" for number in range(40)])
    tokenizer.save_pretrained(world / "model")
    assert unlearn(gru, world, "--dry-run")[0] == 0  # nothing in the rows uses them
    write(world / "retain.jsonl", [{"question": "who ?", "answer": "word39"}])
    assert "retain: token " in refused(gru, world)


def test_a_padding_token_without_an_embedding_is_refused(gru, world):
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens([f"word{number}" for number in range(40)])
    tokenizer.add_special_tokens({"pad_token": "<new pad>"})
    tokenizer.save_pretrained(world / "model")
    assert "--pad-token names another padding" in refused(gru, world)


def test_padding_with_the_end_token_trains_alike(gru, world, tmp_path):
    """Padding is known by its place, not by its token, so the end of an answer is learnt all the same."""
    found = {}
    for pad in ("<pad>", "<eos>"):
        tiny.save(world / "model")
        code, _, err = unlearn(gru, world, "--pad-token", pad, "--output-dir", tmp_path / pad, "--report-examples", "0")
        assert code == 0, err
        found[pad] = load_file(tmp_path / pad / "model" / "model.safetensors")
    for name, weight in found["<pad>"].items():
        torch.testing.assert_close(weight, found["<eos>"][name], rtol=1e-5, atol=1e-7)


def test_a_token_of_an_alternative_without_an_embedding_is_refused(gru, world):
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens([f"word{number}" for number in range(40)])
    tokenizer.save_pretrained(world / "model")
    write(world / "forget.jsonl", [row | {"alternate": "word39"} for row in tiny.rows(4)])
    assert "forget (alternatives): token " in refused(gru, world, "--objective", "dpo")


# --- the generation's configuration ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ['{"temp', "[1]", '{"max_new_tokens": -1}', '{"cache_implementation": "none such"}', '{"eos_token_id": "x"}'],
)
def test_a_generation_configuration_that_does_not_load_is_refused(gru, world, text):
    (world / "model" / "generation_config.json").write_text(text)
    assert "generation_config.json" in refused(gru, world)


@pytest.mark.parametrize(
    "sampling", [{"do_sample": True, "temperature": 0.7, "top_p": 0.5}, {"do_sample": False, "temperature": 0.7}]
)
def test_sampling_that_a_model_asks_for_changes_no_number(gru, world, tmp_path, sampling):
    seen = []
    for more in ({}, sampling):
        edit(world / "model" / "generation_config.json", **more)
        code, _, err = unlearn(gru, world, "--output-dir", tmp_path / f"run{len(seen)}")
        assert code == 0, err
        seen.append((tmp_path / f"run{len(seen)}" / "examples.json").read_text())
    assert seen[0] == seen[1]
    saved = json.loads((tmp_path / "run1" / "model" / "generation_config.json").read_text())
    assert saved["temperature"] == 0.7  # what the model asked for goes on with it


# --- modules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--use-peft", "--lora-target-modules", "nope"], "--lora-target-modules nope is found in no module"),
        (["--use-peft", "--lora-target-modules", "q_proj,vproj"], "--lora-target-modules vproj is found in no module"),
        (["--use-peft", "--lora-target-modules", r".*\.nope$"], "nope"),
        (["--trainable-params", "nope"], "trainable_params 'nope' matches no parameter"),
        (["--objective", "rmu", "--hidden-module", "nope"], "hidden_module 'nope' matches no module"),
    ],
)
def test_names_of_modules_that_are_not_there(gru, world, flags, message):
    assert message in refused(gru, world, *flags)


def test_names_that_are_there(gru, world):
    for flags in (["--use-peft", "--lora-target-modules", "q_proj,self_attn.v_proj"], ["--trainable-params", "mlp"]):
        assert unlearn(gru, world, *flags, "--dry-run")[0] == 0


# --- packages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "package"),
    [
        (["--optim", "adamw_bnb_8bit"], "pip install 'gru-unlearn[gpu]'"),
        (["--use-liger-kernel"], "pip install 'gru-unlearn[gpu]'"),
        (["--use-peft", "--load-in-4bit"], "pip install 'gru-unlearn[gpu]'"),
        (["--attn-implementation", "flash_attention_2"], "pip install flash-attn"),
        (["--report-to", "wandb"], "wandb"),
    ],
)
def test_missing_packages_are_named_with_the_command_that_brings_them(gru, world, monkeypatch, flags, package):
    for name in ("runs.run_preparation", "training.packages"):
        monkeypatch.setattr(f"gru_unlearn.{name}.is_bitsandbytes_available", lambda: False)
    monkeypatch.setattr("gru_unlearn.training.packages.is_liger_kernel_available", lambda: False)
    monkeypatch.setattr("gru_unlearn.runs.run_preparation.is_flash_attn_2_available", lambda **_: False)
    monkeypatch.setattr("gru_unlearn.runs.run_preparation.find_spec", lambda _: None)
    monkeypatch.setattr("transformers.integrations.integration_utils.is_wandb_available", lambda: False)
    assert package in refused(gru, world, *flags)


# --- a forward pass --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", ["1e-4", "auto"])
def test_a_model_that_gives_nan_is_refused_before_it_trains(gru, world, rate):
    file = world / "model" / "model.safetensors"
    weights = load_file(file)
    next(iter(weights.values())).fill_(float("nan"))
    save_file(weights, file, metadata={"format": "pt"})
    told = refused(gru, world, f"--learning-rate={rate}")
    assert "forget: a forward pass on the longest row (16 tokens) gives NaN or infinity" in told


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), "is out of memory: lower --max-le"),
        (RuntimeError("shapes\nthat do not fit"), "fails (shapes)"),
    ],
)
def test_a_forward_pass_that_fails_is_one_line(monkeypatch, error, message):
    model, encoder = tiny.model(), Encoder(tiny.tokenizer())
    sets = {"retain": encoder.encode_all([to_record(row, "") for row in tiny.rows(3)], "retain")}

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(model.model, "forward", fail)
    with pytest.raises(UserError) as raised:
        try_longest_rows(model, sets, 0, torch.device("cpu"))
    assert str(raised.value).startswith("retain: a forward pass on the longest row (16 tokens)")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_forward_pass_leaves_model_and_random_numbers_as_they_were():
    model, encoder = tiny.model(), Encoder(tiny.tokenizer())
    sets = {"forget": encoder.encode_all([to_record(row, "") for row in tiny.rows(3)], "forget"), "further": []}
    before = torch.get_rng_state()
    model.train()
    try_longest_rows(model, sets, 0, torch.device("cpu"), bf16=True)
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_that_is_too_large_for_this_machine_is_not_loaded(gru, world, monkeypatch):
    monkeypatch.setattr("gru_unlearn.runs.rehearsal._memory", lambda _: 1000)
    code, out, _ = unlearn(gru, world, "--dry-run")
    assert code == 0
    assert "everything checked but a forward pass (this machine's memory is too small" in out
