"""How a run asked stands beside its model, and everything that looks at the model later asks alike."""

import json
import shutil
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from huggingface_hub.utils import filter_repo_objects
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from rich.console import Console

import gru_unlearn
import tiny
from gru_unlearn.attacks.attack_request import AttackRequest
from gru_unlearn.attacks.battery import make_battery
from gru_unlearn.benchmark.evaluation_request import EvaluationRequest
from gru_unlearn.common.notices import Notice
from gru_unlearn.comparison.comparison_suite import asked_alike, suite_job
from gru_unlearn.data import TextFormat
from gru_unlearn.errors import UserError
from gru_unlearn.models import fetching, locating
from gru_unlearn.models.loading import load_model
from gru_unlearn.models.locating import base_of, locate
from gru_unlearn.models.manner_flags import MannerFlags
from gru_unlearn.models.manners import settings_for
from gru_unlearn.models.model_settings import ASKING, ModelSettings
from gru_unlearn.models.weights import hash_weights
from gru_unlearn.results.manner import MANNER_FILE, AdapterBase, Manner
from gru_unlearn.runs.recipe import make_recipe
from gru_unlearn.runs.run_preparation import prepare
from gru_unlearn.runs.tru_job import tru
from gru_unlearn.runs.tru_options import TruOptions
from gru_unlearn.runs.tru_preparation import prepare_tru
from gru_unlearn.runs.unlearn_job import unlearn

TAGS = {"question_tag": "who : ", "answer_tag": " was : "}
LORA = {"use_peft": True, "lora_r": 1, "lora_target_modules": "q_proj"}


def write_rows(file, rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def settings_of(world, name, **more):
    return {
        "model": str(world / "base"), "forget": str(world / "forget.jsonl"), "retain": str(world / "retain.jsonl"),
        "max_steps": 1, "warmup_steps": 0, "per_device_train_batch_size": 6, "gradient_accumulation_steps": 1,
        "use_cpu": True, "report_examples": 0, "output_dir": str(world / name), "max_length": 64, **TAGS, **more,
    }  # fmt: skip


def run(world, name, **more):
    return unlearn(prepare(make_recipe(settings_of(world, name, **more))), Console(quiet=True))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Made once: a base without chat template, a run of all its weights and one of adapters, both with other tags."""
    world = tmp_path_factory.mktemp("made")
    tiny.save(world / "base", chat=False)
    write_rows(world / "forget.jsonl", tiny.rows(6))
    write_rows(world / "retain.jsonl", tiny.rows(6, start=6))
    run(world, "full")
    patch = pytest.MonkeyPatch()
    patch.chdir(world)
    run(world, "lora", model="base", **LORA)
    patch.undo()
    return world


@pytest.fixture
def world(made, tmp_path):
    """A copy of it, to be changed."""
    for name in ("base", "full", "lora"):
        shutil.copytree(made / name, tmp_path / name)
    for name in ("forget.jsonl", "retain.jsonl"):
        shutil.copy(made / name, tmp_path / name)
    config = tmp_path / "lora" / "model" / "adapter_config.json"
    config.write_text(config.read_text().replace(str(made), str(tmp_path)))
    manner = tmp_path / "lora" / "model" / MANNER_FILE
    manner.write_text(manner.read_text().replace(str(made), str(tmp_path)))
    return tmp_path


@pytest.fixture
def no_hub(monkeypatch):
    """Whoever asks the hub is told off."""
    monkeypatch.setattr(locating, "fetch", lambda *names, **_: pytest.fail(f"the hub is asked for {names}"))


def read(file):
    return json.loads(file.read_text())


def change(file, **more):
    file.write_text(json.dumps(read(file) | more))


def evaluate(gru, world, model, *more):
    return gru(
        "evaluate", "--suite", "own", "--model", model, "--forget", world / "forget.jsonl",
        "--out", world / "e", "--no-reuse", "--overwrite-output-dir", *more,
    )  # fmt: skip


def probability(world):
    return read(world / "e" / "summary.json")["metrics"]["forget_Q_A_Prob"]


def subject_settings(**request):
    return make_battery(AttackRequest(**request)).subjects["unlearned"].settings


# --- what a run writes -----------------------------------------------------------------------------------------------


def test_a_run_says_beside_its_model_how_it_asked(made):
    manner = read(made / "full" / "model" / MANNER_FILE)
    assert manner["asked"] == ModelSettings(max_length=64, **TAGS).asked
    assert manner["asked"]["chat_template_kwargs"] == TextFormat().chat_template_kwargs  # the date, too
    assert manner["version"] == gru_unlearn.__version__
    assert "base" not in manner


def test_adapters_name_their_base_by_an_absolute_path_and_its_hash(made):
    base = read(made / "lora" / "model" / MANNER_FILE)["base"]
    assert base == {"source": str(made / "base"), "sha256": hash_weights(made / "base")}
    assert read(made / "lora" / "model" / "adapter_config.json")["base_model_name_or_path"] == str(made / "base")


def test_the_best_model_and_checkpoints_have_it_too(made, tmp_path):
    for name in ("base", "forget.jsonl", "retain.jsonl"):
        (tmp_path / name).symlink_to(made / name)
    rule = {"keep_best": "maximize: retain_prob", "eval_strategy": "steps", "eval_steps": 1}
    run(tmp_path, "o", **rule, save_strategy="steps", save_steps=1)
    for folder in ("model", "checkpoint-1"):
        assert Manner.beside(tmp_path / "o" / folder).asked["question_tag"] == TAGS["question_tag"]


def test_tru_writes_it(made, tmp_path):
    settings = settings_of(made, "unused", output_dir=str(tmp_path / "o"), num_train_epochs=1)
    for name in ("report_examples", "retain"):
        settings.pop(name)
    tru(prepare_tru(settings, TruOptions(alpha=1.0, alphas=(1.0,))), Console(quiet=True))
    assert Manner.beside(tmp_path / "o" / "model").asked["answer_tag"] == TAGS["answer_tag"]


def test_merged_adapters_of_a_ledger_are_asked_alike(gru, world):
    ledger, recipe = world / "ledger", world / "recipe.yaml"
    settings = settings_of(world, "unused", **LORA)
    for name in ("output_dir", "forget", "report_examples"):
        settings.pop(name)
    recipe.write_text(json.dumps(settings))
    limits = ("--utility-floor", "0.001", "--forget-ceiling", "1")
    code, _, err = gru("requests", "init", ledger, recipe, *limits)
    assert code == 0, err
    assert gru("requests", "add", ledger, "--forget", world / "forget.jsonl")[0] == 0
    assert gru("requests", "run", ledger)[0] in (0, 5)  # whether it is adopted or not
    (whole,) = ledger.glob("versions/*/whole")
    assert read(whole / MANNER_FILE)["asked"] == ModelSettings(max_length=64, **TAGS).asked
    assert "base" not in read(whole / MANNER_FILE)


# --- who reads it ----------------------------------------------------------------------------------------------------


def test_an_evaluation_asks_as_the_run_did(gru, world):
    code, out, err = evaluate(gru, world, world / "full" / "model")
    assert code == 0, err
    assert "asked otherwise" not in out
    assert probability(world) == pytest.approx(read(world / "full" / "summary.json")["results"]["forget_prob"])
    assert read(world / "e" / "summary.json")["asked"] == ModelSettings(max_length=64, **TAGS).asked
    assert gru("report", world / "e")[0] == 0
    assert "How the model was asked" in (world / "e" / "report.html").read_text()


def test_a_flag_goes_before_it_and_that_is_said(gru, world):
    evaluate(gru, world, world / "full" / "model")
    as_the_run = probability(world)
    code, out, _ = evaluate(gru, world, world / "full" / "model", "--question-tag", "Question : ")
    assert code == 0
    (line,) = [line for line in out.splitlines() if "asked otherwise" in line]
    assert "--question-tag 'Question : ', not 'who : '" in line
    assert probability(world) != as_the_run
    _, out, _ = evaluate(gru, world, world / "full" / "model", "--question-tag", TAGS["question_tag"])
    assert "asked otherwise" not in out
    assert probability(world) == as_the_run


def test_the_command_in_a_report_repeats_the_flags(gru, world):
    more = ("--question-tag", "Question : ", "--chat-template-kwargs", '{"a": 1}', "--no-allow-truncation")
    evaluate(gru, world, world / "full" / "model", *more)
    gru("report", world / "e")
    page = (world / "e" / "report.html").read_text()
    assert "--no-allow-truncation" in page
    assert "--chat-template-kwargs" in page


def test_a_model_without_it_is_asked_by_the_defaults(gru, world):
    (world / "full" / "model" / MANNER_FILE).unlink()
    code, out, _ = evaluate(gru, world, world / "full" / "model")
    assert (code, "asked otherwise" in out) == (0, False)
    summary = read(world / "e" / "summary.json")
    assert summary["asked"] == ModelSettings().asked
    assert not set(summary["settings"]) & set(ASKING)
    given_tags = (f"--{name.replace('_', '-')}={value}" for name, value in TAGS.items())
    evaluate(gru, world, world / "full" / "model", *given_tags)
    assert probability(world) == pytest.approx(read(world / "full" / "summary.json")["results"]["forget_prob"])


def test_attacks_ask_as_the_run_did(world):
    rows = {"forget": str(world / "forget.jsonl"), "target": str(world / "base")}
    wanted = ModelSettings(max_length=64, **TAGS)
    assert subject_settings(model=str(world / "full" / "model"), **rows) == wanted
    with pytest.warns(Notice, match="--answer-tag ' : ', not ' was : '"):
        assert subject_settings(model=str(world / "full" / "model"), answer_tag=" : ", **rows).answer_tag == " : "
    (world / "full" / "model" / MANNER_FILE).unlink()
    assert subject_settings(model=str(world / "full" / "model"), **rows) == ModelSettings()
    run_of_an_earlier_version = make_battery(AttackRequest(run=world / "full", target=str(world / "base")))
    assert run_of_an_earlier_version.subjects["unlearned"].settings == replace(wanted, dtype="float32")


def test_an_attack_on_a_run_finds_the_run_s_models_from_anywhere(world, monkeypatch, no_hub):
    (world / "m").mkdir()
    (world / "base").rename(world / "m" / "base")
    monkeypatch.chdir(world)
    tiny.save(world / "m" / "retain", seed=1, chat=False)
    run(world, "o", model="m/base", retain_model="m/retain")
    (world / "elsewhere").mkdir()
    monkeypatch.chdir(world / "elsewhere")
    subjects = make_battery(AttackRequest(run=world / "o")).subjects
    assert subjects["target"].folder == world / "m" / "base"
    assert subjects["retain_model"].folder == world / "m" / "retain"
    (world / "m" / "base").rename(world / "gone")
    with pytest.raises(UserError, match=f"--target {world}/m/base: no such folder"):
        make_battery(AttackRequest(run=world / "o"))


def test_what_an_attack_is_known_by_stays_as_it_was_where_all_is_default(world):
    (world / "full" / "model" / MANNER_FILE).unlink()
    request = AttackRequest(
        model=str(world / "full" / "model"), target=str(world / "base"), forget=str(world / "forget.jsonl")
    )
    assert set(make_battery(request).settings) & set(ASKING) == {"max_length"}


def test_models_that_are_compared_are_asked_alike(gru, world):
    model, retain_model = world / "base", world / "full" / "model"
    code, out, _ = evaluate(gru, world, model, "--retain-model", retain_model)
    assert code == 0
    assert f"{retain_model} is asked otherwise than its run asked: " in out


def test_a_run_that_starts_from_another_s_model_asks_alike(world):
    left_away = dict.fromkeys((*TAGS, "max_length"))
    settings = {**settings_of(world, "next", model=str(world / "full" / "model")), **left_away}
    settings = {name: value for name, value in settings.items() if value is not None}
    with pytest.warns(Notice, match="asked as the run did that wrote it: max_length 64, question_tag 'who : '"):
        prepared = prepare(make_recipe(settings))
    assert prepared.recipe.in_force["question_tag"] == TAGS["question_tag"]
    assert prepared.model.settings.asked == ModelSettings(max_length=64, **TAGS).asked
    unlearn(prepared, Console(quiet=True))
    assert read(world / "next" / "model" / MANNER_FILE) == read(world / "full" / "model" / MANNER_FILE)
    with pytest.warns(Notice, match="--question-tag 'one : ', not 'who : '"):
        prepared = prepare(make_recipe(settings | {"question_tag": "one : ", "output_dir": str(world / "third")}))
    assert prepared.model.settings.question_tag == prepared.recipe.config.question_tag == "one : "


def test_a_comparison_evaluates_with_the_tags_of_its_runs(world):
    request = EvaluationRequest("m", suite="own", forget=str(world / "forget.jsonl"))
    usual = suite_job(request, world / "scores")
    assert suite_job(asked_alike(request, ModelSettings()), world / "scores").used.decides == usual.used.decides
    asked = asked_alike(request, ModelSettings(**TAGS))
    assert (asked.question_tag, asked.answer_tag) == tuple(TAGS.values())


@pytest.mark.parametrize("command", ["evaluate", "unlearn", "attack", "plan"])
def test_the_folder_of_a_run_stands_for_its_model(gru, world, command):
    rows = ("--forget", world / "forget.jsonl", "--retain", world / "retain.jsonl")
    flags = {
        "evaluate": ("--suite", "own", *rows, "--out", world / "e"),
        "unlearn": (*rows, "--dry-run", "--use-cpu=true"),
        "attack": (*rows, "--target", world / "full", "--attacks", "quantization", "--out", world / "a"),
        "plan": ("--out", world / "p"),
    }
    code, out, err = gru(command, "--model", world / "full", *flags[command])
    assert code == 0, err
    flat = " ".join(out.split())
    assert f"{world}/full is the folder of a run: taking its model, {world}/full/model" in flat


# --- a file that is not as it should be ------------------------------------------------------------------------------

DAMAGED = {
    "no JSON": "{",
    "no object": "[]",
    "empty": "",
    "nothing asked": '{"version": "1"}',
    "asked a list": '{"asked": [], "version": "1"}',
    "a length in words": '{"asked": {"max_length": "long"}, "version": "1"}',
    "no length": '{"asked": {"max_length": 0}, "version": "1"}',
    "arguments that are none": '{"asked": {"chat_template_kwargs": 3}, "version": "1"}',
    "a base without a hash": '{"asked": {}, "base": {"source": "x"}, "version": "1"}',
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_one_line(gru, world, content):
    file = world / "full" / "model" / MANNER_FILE
    file.write_text(content)
    code, _, err = evaluate(gru, world, world / "full" / "model")
    assert code == 2
    assert str(file) in err
    assert len(err.splitlines()) == 1


def test_what_this_version_does_not_know_is_said_and_code_is_not_run_for_a_file(gru, world):
    file = world / "full" / "model" / MANNER_FILE
    change(file, asked={**TAGS, "trust_remote_code": True, "dtype": "float16", "voice": "low"})
    _, out, _ = evaluate(gru, world, world / "full" / "model")
    assert "trust_remote_code, dtype, voice: not known to this version, and left out" in out.replace("\n", "")
    with pytest.warns(Notice):
        assert settings_for(file.parent, {}) == ModelSettings(**TAGS)


@pytest.mark.parametrize("name", ["kernels-community/flash-attn", "flash_attention_2"])
def test_an_attention_that_is_not_to_be_had_here_is_not_insisted_on(world, monkeypatch, name):
    monkeypatch.setattr("gru_unlearn.models.manners.is_flash_attn_2_available", lambda: False)
    folder = world / "full" / "model"
    change(folder / MANNER_FILE, asked={"attn_implementation": name})
    with pytest.warns(Notice, match=f"the attention {name}, which is not to be had here"):
        assert settings_for(folder, {}).attn_implementation is None
    assert settings_for(folder, {"attn_implementation": name}).attn_implementation == name


def test_every_setting_that_decides_how_is_a_flag():
    assert {one.name for one in fields(MannerFlags)} == set(ASKING)
    assert {one.name for one in fields(TextFormat)} <= set(ASKING)


TEXTS = st.text(st.characters(blacklist_categories=["Cs"]), max_size=8)
SETTINGS = st.builds(
    ModelSettings,
    max_length=st.integers(1, 10**6),
    question_tag=TEXTS,
    answer_tag=TEXTS,
    chat_template_kwargs=st.dictionaries(TEXTS, st.one_of(TEXTS, st.booleans(), st.integers(), st.lists(TEXTS))),
    allow_truncation=st.booleans(),
    pad_token=st.none() | TEXTS,
    eos_token=st.none() | TEXTS,
    attn_implementation=st.sampled_from([None, "eager", "sdpa"]),
)


@given(SETTINGS)
def test_what_is_written_is_read(tmp_path_factory, settings):
    folder = tmp_path_factory.mktemp("model")
    Manner(asked=settings.asked, version="1").write_beside(folder)
    assert settings_for(folder, {}) == settings


# --- adapters and their base -----------------------------------------------------------------------------------------


def test_adapters_find_a_base_that_was_named_by_a_relative_path_from_anywhere(gru, world, monkeypatch, no_hub):
    (world / "elsewhere").mkdir()
    monkeypatch.chdir(world / "elsewhere")
    code, _, err = evaluate(gru, world, world / "lora" / "model")
    assert code == 0, err
    assert probability(world) == pytest.approx(read(world / "lora" / "summary.json")["results"]["forget_prob"])
    code, _, err = gru("export", world / "lora", "--out", world / "x", "--merge")
    assert code == 0, err
    rows = ("--forget", world / "forget.jsonl", "--retain", world / "retain.jsonl")
    code, _, err = gru("unlearn", "--model", world / "lora", *rows, "--max-steps", "1", "--use-cpu=true",
                       "--output-dir", world / "next", "--report-examples", "0")  # fmt: skip
    assert code == 0, err


def test_a_base_that_is_gone_is_named_and_never_looked_up_on_the_hub(gru, world, no_hub):
    config = world / "lora" / "model" / "adapter_config.json"
    (world / "base").rename(world / "moved")
    for base in (str(world / "base"), "m/base"):  # the second: a tool that wrote its own name for it
        change(config, base_model_name_or_path=base)
        code, _, err = evaluate(gru, world, world / "lora" / "model")
        assert code == 2
        assert f"its base {base}: no such folder; write where it is now as base_model_name_or_path in {config}" in err
        assert len(err.splitlines()) == 1
    change(config, base_model_name_or_path=str(world / "moved"))
    code, out, _ = evaluate(gru, world, world / "lora" / "model")
    assert (code, "not the model that the adapters" in out) == (0, False)


def test_the_relative_base_of_a_run_by_an_earlier_version_is_not_looked_up_on_the_hub(world, no_hub):
    folder = world / "lora" / "model"
    (folder / MANNER_FILE).unlink()
    change(folder / "adapter_config.json", base_model_name_or_path="m/base")
    with pytest.raises(UserError, match=r"its base m/base: no such folder"):
        locate(str(folder))


def test_a_base_whose_weights_changed_is_told(gru, world):
    tiny.model(seed=5).save_pretrained(world / "base")
    code, out, _ = evaluate(gru, world, world / "lora" / "model")
    assert code == 0
    assert f"its base {world}/base is not the model that the adapters were trained on" in out
    code, _, err = gru("export", world / "lora", "--out", world / "x")
    assert code == 2
    assert "its SHA-256 differs" in err


@pytest.fixture
def hub(world, monkeypatch):
    """A hub whose only model, org/base, is the base at a commit; and what it was asked for."""
    commit, asked = "0" * 39 + "1", []
    snapshot = world / "cache" / "models--org--base" / "snapshots" / commit
    shutil.copytree(world / "base", snapshot)

    def give(model, name, *, revision=None, trust_remote_code=False):
        asked.append((model, revision, trust_remote_code))
        return snapshot

    monkeypatch.setattr(locating, "fetch", give)
    monkeypatch.setattr(locating, "fetched", lambda model, revision: None)
    return snapshot, asked


def test_adapters_on_a_hub_model_name_its_commit(world, hub, monkeypatch):
    snapshot, asked = hub
    run(world, "o", model="org/base", **LORA)
    model = world / "o" / "model"
    noted = {"source": "org/base", "revision": snapshot.name, "sha256": hash_weights(world / "base")}
    assert read(model / MANNER_FILE)["base"] == noted
    assert base_of(model) == snapshot  # as long as it is in the cache
    monkeypatch.setattr(locating.Path, "is_dir", lambda folder: False)
    asked.clear()
    base_of(model, trust_remote_code=True)
    assert asked == [("org/base", snapshot.name, True)]


def test_adapters_from_elsewhere_are_found_as_they_say(world, hub):
    folder = world / "foreign"
    shutil.copytree(world / "lora" / "model", folder)
    (folder / MANNER_FILE).unlink()
    change(folder / "adapter_config.json", base_model_name_or_path="org/base", revision="v1")
    assert locate(str(folder)) == folder
    assert hub[1] == [("org/base", "v1", False)]
    load_model(folder)


def test_adapters_of_another_kind_are_refused(world):
    change(world / "lora" / "model" / "adapter_config.json", task_type="SEQ_CLS")
    with pytest.raises(UserError, match="adapters of the kind SEQ_CLS"):
        load_model(world / "lora" / "model")


def foreign_adapters(world, **settings):
    """Adapters from elsewhere on a base with one weight for embeddings and head, with what they change drawn."""
    adapted = get_peft_model(load_model(world / "base"), LoraConfig(r=2, task_type="CAUSAL_LM", **settings))
    torch.manual_seed(0)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(std=0.3)
    adapted.save_pretrained(world / "foreign")
    return adapted.eval()


def test_adapters_saved_without_a_tokenizer_have_the_one_of_their_base(gru, world):
    foreign_adapters(world, target_modules=["q_proj", "v_proj"])
    assert not list((world / "foreign").glob("tokenizer*"))
    run(world, "o", model=str(world / "foreign"))
    assert (world / "o" / "model" / "tokenizer.json").is_file()
    code, _, err = evaluate(gru, world, world / "foreign")
    assert code == 0, err
    with_bases = probability(world)
    for file in (world / "base").glob("tokenizer*"):
        shutil.copy(file, world / "foreign")
    assert evaluate(gru, world, world / "foreign")[0] == 0
    assert probability(world) == with_bases


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj", "embed_tokens"]},
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["embed_tokens", "lm_head"]},
        {"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True},
        {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [1, 2], "lm_head": [3]}},
        {"target_modules": ["q_proj"], "trainable_token_indices": {"lm_head": [3]}},
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_adapters_on_a_weight_that_embeddings_and_head_share_are_refused(world, settings):
    """PEFT would merge them into both, or twice, and say nothing."""
    foreign_adapters(world, **settings)
    with pytest.raises(UserError, match="embeddings and output head share one weight") as refused:
        load_model(world / "foreign")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj"]},
        {"target_modules": ["q_proj"], "trainable_token_indices": [1, 2, 3]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"], "ensure_weight_tying": True},
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_other_adapters_are_merged_as_they_act_and_saved_so(world, settings):
    adapted = foreign_adapters(world, **settings)
    tokens = torch.arange(12)[None]
    merged = load_model(world / "foreign").eval()
    merged.save_pretrained(world / "whole")
    saved = load_model(world / "whole").eval()
    with torch.no_grad():
        acting = adapted(tokens).logits
        assert torch.allclose(merged(tokens).logits, acting, atol=1e-4)
        assert torch.allclose(saved(tokens).logits, acting, atol=1e-4)


def test_a_run_trains_no_adapters_that_merging_would_get_wrong(world):
    with pytest.raises(UserError, match="embeddings and output head share one weight"):
        run(world, "shared", use_peft=True, lora_r=1, lora_target_modules="q_proj,embed_tokens")


def test_merged_adapters_can_be_trained_on(world):
    assert all(parameter.requires_grad for parameter in load_model(world / "lora" / "model").parameters())


# --- exports ---------------------------------------------------------------------------------------------------------


def test_an_export_carries_it_and_is_asked_alike(gru, world):
    assert gru("export", world / "full", "--out", world / "x")[0] == 0
    assert read(world / "x" / MANNER_FILE) == read(world / "full" / "model" / MANNER_FILE)
    assert MANNER_FILE in read(world / "x" / "summary.json")["files"]
    code, _, err = evaluate(gru, world, world / "x")
    assert code == 0, err
    assert probability(world) == pytest.approx(read(world / "full" / "summary.json")["results"]["forget_prob"])


def test_the_run_of_an_earlier_version_is_exported_as_it_asked(gru, world):
    (world / "full" / "model" / MANNER_FILE).unlink()
    assert gru("export", world / "full", "--out", world / "x")[0] == 0
    assert read(world / "x" / MANNER_FILE)["asked"] == ModelSettings(max_length=64, **TAGS).asked


def test_exported_adapters_know_their_base_by_its_hash_alone(gru, world):
    assert gru("export", world / "lora", "--out", world / "x")[0] == 0
    assert read(world / "x" / MANNER_FILE)["base"] == {"sha256": hash_weights(world / "base")}
    change(world / "x" / "adapter_config.json", base_model_name_or_path=str(world / "base"))
    code, out, _ = evaluate(gru, world, world / "x")
    assert (code, "not the model" in out) == (0, False)
    tiny.model(seed=5).save_pretrained(world / "base")
    _, out, _ = evaluate(gru, world, world / "x")
    assert "not the model that the adapters were trained on" in out


def test_evaluations_side_by_side_that_were_asked_otherwise_are_told(gru, world):
    folders = {"before": world / "base", "after": world / "full" / "model"}
    for name, model in folders.items():
        assert evaluate(gru, world, model)[0] == 0
        (world / "e").rename(world / name)
    flags = ("--evaluation", world / "before", "--evaluation", world / "after")
    code, out, err = gru("export", world / "full", "--out", world / "x", *flags)
    assert code == 0, err
    assert "asked with --question-tag 'who : ', another of its suite with 'Question: '" in out


# --- what is fetched from the hub ------------------------------------------------------------------------------------

REPOSITORY = {
    True: [
        *("config.json", "generation_config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors"),
        *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json"),
        *("merges.txt", "vocab.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "tekken.json"),
        *("qwen.tiktoken", "source.spm", "bpe.codes", "vocab.bpe", "chat_template.jinja", "chat_template.json"),
        *("additional_chat_templates/tool_use.jinja", "adapter_config.json", "adapter_model.safetensors", "README.md"),
        *("gru_unlearn.json", "preprocessor_config.json"),
    ],
    False: [
        *("pytorch_model.bin", "training_args.bin", "model.pt", "optimizer.pth", "vocab.pkl", "rust_model.ot"),
        *("tf_model.h5", "flax_model.msgpack", "model.gguf", "onnx/model.onnx", "original/consolidated.00.pth"),
        *("fp32/model.safetensors", "setup.sh"),
    ],
}  # fmt: skip
CODE = ["modeling_mara.py", "configuration_mara.py", "tokenization_mara.py", "custom_generate/generate.py"]


@pytest.mark.parametrize("trusted", [False, True])
def test_all_that_loads_is_fetched_and_code_only_if_it_may_be_run(monkeypatch, tmp_path, trusted):
    asked = {}

    def snapshot(model, **options):
        asked.update(options)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert fetching.fetch("org/model", "--model org/model", revision="abc", trust_remote_code=trusted) == tmp_path
    assert asked["revision"] == "abc"
    there = [*REPOSITORY[True], *REPOSITORY[False], *CODE]
    patterns = {name: asked[name] for name in ("allow_patterns", "ignore_patterns")}
    assert list(filter_repo_objects(there, **patterns)) == [*REPOSITORY[True], *(CODE if trusted else [])]


def test_a_hub_model_s_code_is_fetched_for_whoever_trusts_it(world, hub):
    for trusted in (False, True):
        locate("org/base", trust_remote_code=trusted)
    assert [trusted for *_, trusted in hub[1]] == [False, True]
    recipe = make_recipe(settings_of(world, "o", model="org/base", trust_remote_code=True))
    assert prepare(recipe).model.folder == hub[0]
    assert hub[1][-1] == ("org/base", None, True)


def test_code_that_no_commit_pins_is_told(world):
    mapping = {"AutoConfig": "configuration_mara.Config", "AutoModelForCausalLM": "org/other-7b--modeling_mara.Model"}
    change(world / "base" / "config.json", auto_map=mapping)
    with pytest.warns(Notice, match=r"config\.json takes code from org/other-7b, where the newest is run"):
        locate(str(world / "base"), trust_remote_code=True)


def test_the_commit_of_a_folder_that_was_fetched():
    assert fetching.commit_of(Path("hub/models--org--m/snapshots/abc")) == "abc"
    assert fetching.commit_of(Path("models/abc")) is None


def test_a_base_is_noted_where_it_is(tmp_path):
    assert AdapterBase(source=str(tmp_path), sha256="").folder == tmp_path
    assert AdapterBase(source="org/model", sha256="").folder is None
    assert AdapterBase(sha256="").folder is None
