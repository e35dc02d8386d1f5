"""What the tool must never do: run foreign code, unpickle, delete or write elsewhere, tell secrets or forget text."""

import ast
import errno
import json
import os
import re
from pathlib import Path

import pytest
import torch
import yaml
from filelock import FileLock
from safetensors.torch import load_file, save_file

import tiny
from gru_unlearn import UnlearningConfig, UnlearningTrainer
from gru_unlearn.common.files import finish, unfinished, write_json, write_text
from gru_unlearn.errors import UserError, is_no_room
from gru_unlearn.models import loading as models
from gru_unlearn.models.locating import locate
from gru_unlearn.results.run_folder import DISCARDED, RunFolder
from gru_unlearn.runs import recipe_file
from gru_unlearn.runs.best_rule import parse_rule
from gru_unlearn.runs.keep_best import BEST_FILE, KeepBest
from gru_unlearn.task_vectors.checkpoint import Checkpoint
from gru_unlearn.training import last_whole_checkpoint

SOURCE = Path(__file__).parents[1] / "src" / "gru_unlearn"
FAST = [
    "--max-steps", "2", "--per-device-train-batch-size", "4", "--gradient-accumulation-steps", "1",
    "--learning-rate", "5e-3", "--warmup-steps", "0", "--use-cpu",
]  # fmt: skip


@pytest.fixture
def world(tmp_path):
    """A model, and files of rows; nothing in the user's own cache."""
    return tiny.save_world(tmp_path)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("GRU_UNLEARN_CACHE", str(tmp_path_factory.mktemp("cache")))


def flags(world, **changes):
    given = {"model": world / "model", "forget": world / "forget.jsonl", "retain": world / "retain.jsonl"} | changes
    return [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# --- foreign code ----------------------------------------------------------------------------------------------------


def lay_trap(folder, sprung, model_type=None):
    """Code in a model's folder that its configuration and its tokenizer's name."""
    (folder / "trap.py").write_text(
        f"open({str(sprung)!r}, 'w').close()\n"
        "from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast\n"
        "class TrapConfig(LlamaConfig):\n    model_type = 'trap'\n"
        "class TrapModel(LlamaForCausalLM):\n    config_class = TrapConfig\n"
        "class TrapTokenizer(PreTrainedTokenizerFast):\n    pass\n"
    )
    code = {"AutoConfig": "trap.TrapConfig", "AutoModelForCausalLM": "trap.TrapModel"}
    edit(folder / "config.json", auto_map=code, **({"model_type": model_type} if model_type else {}))
    edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "trap.TrapTokenizer"]})
    return folder


COMMANDS = {
    "unlearn": lambda w: ["unlearn", *flags(w), *FAST, "--output-dir", w / "out"],
    "dry run": lambda w: ["unlearn", *flags(w), *FAST, "--output-dir", w / "out", "--dry-run"],
    "evaluate": lambda w: ["evaluate", "--suite", "own", *flags(w), "--out", w / "out"],
    "plan": lambda w: ["plan", "--model", w / "model", "--out", w / "out"],
    "finetune": lambda w: [
        "finetune", "--model", w / "model", "--train", w / "forget.jsonl", *FAST, "--output-dir", w / "out",
    ],
    "tru": lambda w: ["tru", *flags(w), *FAST, "--alpha", "1", "--out", w / "out"],
    "compare": lambda w: [
        "compare", *flags(w, retain_model=tiny.save(w / "retain", seed=1)), "--eval-steps", "1", *FAST,
        "--output-dir", w / "out",
    ],
    "attack": lambda w: ["attack", *flags(w, target=w / "model"), "--out", w / "out"],
    "requests init": lambda w: ["requests", "init", w / "out", *flags(w)[:2], "--retain", w / "retain.jsonl"],
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_code_in_a_models_folder_is_not_run(gru, world, command):
    lay_trap(world / "model", world / "sprung", model_type="trap")
    code, out, err = gru(*COMMANDS[command](world))
    assert (code, err.count("\n")) == (2, 1), (out, err)
    assert "--trust-remote-code" in err or command == "plan"
    assert not (world / "sprung").exists()
    assert not (world / "out").exists()


def test_code_for_a_model_that_is_known_without_it_is_not_run_either(gru, world):
    lay_trap(world / "model", world / "sprung")
    code, _, err = gru(*COMMANDS["unlearn"](world))
    assert code == 0, err
    code, _, err = gru("evaluate", "--suite", "own", *flags(world, model=world / "out" / "model"), "--out", world / "e")
    assert code == 0, err
    assert gru(*COMMANDS["plan"](world)[:3])[0] == 0
    code, _, err = gru("export", world / "out", "--out", world / "exported")
    assert code == 0, err
    lay_trap(world / "out" / "model", world / "sprung", model_type="trap")
    code, _, err = gru("export", world / "out", "--out", world / "exported again")
    assert (code, "--trust-remote-code" in err) == (2, True)
    assert not (world / "sprung").exists()


def test_the_trap_would_have_sprung(world, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(world / "modules"))
    folder = lay_trap(world / "model", world / "sprung", model_type="trap")
    models.parameter_count(folder, trust_remote_code=True)
    assert (world / "sprung").exists()


def test_attention_from_the_hub_needs_trust(gru, world):
    edit(world / "model" / "config.json", attn_implementation="somebody/kernel")
    code, _, err = gru(*COMMANDS["unlearn"](world))
    assert code == 0, err  # what a configuration asks for is not loaded
    assert gru(*COMMANDS["dry run"](world), "--overwrite-output-dir")[0] == 0
    assert gru(*COMMANDS["plan"](world)[:3])[0] == 0
    with pytest.raises(UserError, match="is code from the hub: add --trust-remote-code"):
        models.load_model(world / "model", attn_implementation="somebody/kernel")


def test_a_script_beside_the_data_is_not_run(gru, world):
    (world / "data").mkdir()
    (world / "forget.jsonl").rename(world / "data" / "data.jsonl")
    (world / "data" / "data.py").write_text(f"open({str(world / 'sprung')!r}, 'w').close()\n")
    code, _, err = gru("unlearn", *flags(world, forget=world / "data"), *FAST, "--dry-run")
    assert code == 0, err
    assert not (world / "sprung").exists()


def test_task_files_of_the_harness_need_trust(gru, world, monkeypatch):
    monkeypatch.setattr("gru_unlearn.evaluation.harness.require_harness", lambda: None)
    code, _, err = gru("evaluate", "--suite", "wmdp", "--model", world / "model", "--data", world)
    assert (code, "task files can run code: pass --trust-remote-code" in err) == (2, True)


def test_yaml_makes_no_objects(gru, world):
    (world / "recipe.yaml").write_text(f"model: !!python/object/apply:os.mkdir ['{world / 'sprung'}']\n")
    code, _, err = gru("unlearn", world / "recipe.yaml")
    assert (code, "recipe.yaml, line 1: not valid YAML" in err) == (2, True)
    assert not (world / "sprung").exists()


FORBIDDEN = {
    "eval", "exec", "os.system", "os.popen", "torch.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all",
    "pickle.load", "pickle.loads", "marshal.loads", "shelve.open", "numpy.load", "np.load", "joblib.load",
}  # fmt: skip


def test_nothing_in_the_source_unpickles_evaluates_or_calls_a_shell():
    found = []
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None)]
                found += [(path, name) for name in names if name in ("pickle", "marshal", "shelve", "joblib", "dill")]
            elif isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                safe = called != "yaml.load" or [ast.unparse(k.value) for k in node.keywords] == ["_Loader"]
                found += [(path, called)] if called in FORBIDDEN or not safe else []
                wrong = [k.arg for k in node.keywords if k.arg in ("shell", "trust_remote_code", "allow_pickle")
                         and isinstance(k.value, ast.Constant) and k.value.value is True]  # fmt: skip
                found += [(path, keyword) for keyword in wrong]
    assert not found
    assert issubclass(recipe_file._Loader, yaml.SafeLoader)
    assert len(list(SOURCE.rglob("*.py"))) > 50


# --- weights ---------------------------------------------------------------------------------------------------------


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, file):
        self.file = str(file)

    def __reduce__(self):
        return open, (self.file, "w")


def pickled_only(world):
    torch.save(load_file(world / "model" / "model.safetensors"), world / "model" / "pytorch_model.bin")
    (world / "model" / "model.safetensors").unlink()


def decoy(world):
    pickled_only(world)
    save_file({"x": torch.zeros(1)}, world / "model" / "decoy.safetensors")


def shards(world, file):
    index = {"metadata": {}, "weight_map": {"model.embed_tokens.weight": file}}
    (world / "model" / "model.safetensors.index.json").write_text(json.dumps(index))


def adapter(world, of="base", **config):
    """The model's folder becomes an adapter of what it was."""
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415 - slow to import

    (world / "model").rename(world / of)
    base = models.load_model(world / of)
    get_peft_model(base, LoraConfig(r=2, task_type="CAUSAL_LM")).save_pretrained(world / "model")
    tiny.tokenizer().save_pretrained(world / "model")
    edit(world / "model" / "adapter_config.json", **config)


def adapter_pickled(world):
    adapter(world)
    file = world / "model" / "adapter_model.safetensors"
    torch.save(load_file(file), world / "model" / "adapter_model.bin")
    file.rename(world / "model" / "other.safetensors")


def base_pickled(world):
    adapter(world)
    torch.save(load_file(world / "base" / "model.safetensors"), world / "base" / "pytorch_model.bin")
    (world / "base" / "model.safetensors").unlink()


REFUSED = {
    "pickled weights": (pickled_only, "no .safetensors weights in it"),
    "a decoy beside them": (decoy, "no file named model.safetensors"),
    "a shard elsewhere": (lambda w: shards(w, "../other.safetensors"), r"names '\.\./other.safetensors' as a file"),
    "a pickled shard": (lambda w: shards(w, "pytorch_model.bin"), "names 'pytorch_model.bin' as a file of its weights"),
    "a broken index": (lambda w: shards(w, None), "names None as a file of its weights"),
    "weights named in the configuration": (
        lambda w: edit(w / "model" / "config.json", transformers_weights="adapter_model.bin"),
        "names 'adapter_model.bin' as a file",
    ),
    "a pickled adapter": (adapter_pickled, "no .safetensors weights in it"),
    "an adapter of a pickled base": (base_pickled, "its base .*base: no .safetensors weights in it"),
    "an adapter that imports": (
        lambda w: adapter(w, auto_mapping={"base_model_class": "x", "parent_library": "antigravity"}),
        "would import 'antigravity'",
    ),
    "an adapter of itself": (
        lambda w: adapter(w, base_model_name_or_path=str(w / "model")),
        "is an adapter too",
    ),
    "a configuration that is none": (lambda w: (w / "model" / "config.json").write_text("[]"), "config.json cannot be"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_only_safetensors_of_the_folder_itself_are_loaded(world, case):
    make, message = REFUSED[case]
    make(world)
    with pytest.raises(UserError, match=message):
        models.load_model(locate(str(world / "model")))


def test_adapters_on_their_base_still_load(world):
    adapter(world)
    assert sum(p.numel() for p in models.load_model(locate(str(world / "model"))).parameters()) > 0


def test_task_vectors_stay_in_their_folder(world):
    shards(world, "../outside.safetensors")
    (world / "model" / "model.safetensors").rename(world / "outside.safetensors")
    with pytest.raises(UserError, match=r"names the shard '\.\./outside.safetensors', which is not a file of"):
        Checkpoint.open(world / "model")


def test_a_checkpoint_with_a_payload_does_not_run_it_and_output_has_no_pickle(gru, world):
    run = ["unlearn", *flags(world), *FAST, "--save-steps", "1", "--output-dir", world / "out"]
    assert gru(*run)[0] == 0
    assert {file.suffix for file in (world / "out" / "model").iterdir()} <= {".safetensors", ".json", ".jinja"}
    assert not list((world / "out").rglob("*.bin"))  # Trainer's pickled arguments
    (world / "out" / "summary.json").unlink()
    checkpoint = last_whole_checkpoint(world / "out")
    assert checkpoint.name == "checkpoint-2"
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        assert (checkpoint / name).is_file()
        torch.save(Payload(world / "sprung"), checkpoint / name)
    assert gru(*run)[0] == 1
    assert not (world / "sprung").exists()
    torch.load(checkpoint / "optimizer.pt", weights_only=False)
    assert (world / "sprung").exists(), "the payload works"


def test_truncated_checkpoints_are_passed_over(gru, world):
    run = ["unlearn", *flags(world), *FAST, "--max-steps", "3", "--save-steps", "1", "--output-dir", world / "out"]
    assert gru(*run)[0] == 0
    out = world / "out"
    for step, name in ((3, "model.safetensors"), (2, "optimizer.pt")):
        file = out / f"checkpoint-{step}" / name
        file.write_bytes(file.read_bytes()[:-100])
        assert last_whole_checkpoint(out).name == f"checkpoint-{step - 1}"


# --- folders ---------------------------------------------------------------------------------------------------------


def begin(folder, identity=None):
    with RunFolder(folder).held(identity or {"settings": {}}, resume=False):
        (folder / "note.txt").write_text("of the run")


def test_overwriting_deletes_links_and_not_what_they_lead_to(tmp_path):
    run, precious = tmp_path / "run", tmp_path / "precious"
    begin(run)
    precious.mkdir()
    (precious / "file.txt").write_text("keep")
    (run / "to-folder").symlink_to(precious)
    (run / "to-file").symlink_to(precious / "file.txt")
    (run / "to-nothing").symlink_to(tmp_path / "nowhere")
    with RunFolder(run).held({"settings": {"new": 1}}, resume=False):
        assert sorted(file.name for file in run.iterdir()) == [".lock", "run.json"]
    assert (precious / "file.txt").read_text() == "keep"


def test_only_folders_of_gru_are_overwritten(tmp_path):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "run.json").write_text('{"name": "of another program"}')
    with pytest.raises(UserError, match="was not written by gru: delete it yourself"):
        RunFolder(foreign).check({}, overwrite=True)
    for content in ("[1]", "{broken"):
        (foreign / "run.json").write_text(content)
        for overwrite in (True, False):
            with pytest.raises(UserError, match="holds files that are not a run"):
                RunFolder(foreign).check({}, overwrite=overwrite)


@pytest.mark.parametrize("name", ["model", "forget", "retain"])
def test_what_a_run_reads_is_not_overwritten_by_it(gru, world, name):
    begin(world / "out")
    inside = world / "out" / (name if name == "model" else f"{name}.jsonl")
    (world / inside.name).rename(inside)
    source = inside if name == "model" else f"{inside}[:6]"
    code, _, err = gru(
        "unlearn", *flags(world, **{name: source}), *FAST, "--output-dir", world / "out", "--overwrite-output-dir"
    )
    assert (code, "which this run reads: choose another folder" in err) == (2, True), err
    assert inside.exists()


def test_a_kill_while_a_folder_is_emptied_leaves_an_empty_one(tmp_path, monkeypatch):
    begin(tmp_path / "run", {"settings": {"old": 1}})
    monkeypatch.setattr("gru_unlearn.results.run_folder.write_json", killed_after(1))
    with pytest.raises(KeyboardInterrupt), RunFolder(tmp_path / "run").held({"settings": {}}, resume=False):
        pytest.fail("it is not ours yet")
    assert json.loads((tmp_path / "run" / "run.json").read_text()) == DISCARDED
    for identity in ({"settings": {"old": 1}}, {"settings": {"new": 1}}):
        assert RunFolder(tmp_path / "run").check(identity) is False


def killed_after(writes):
    """``write_json`` that dies in its place after so many calls."""
    calls = []

    def write(path, content):
        calls.append(path)
        if len(calls) > writes:
            raise KeyboardInterrupt
        write_json(path, content)

    return write


def test_a_kill_while_the_first_file_is_written_leaves_a_free_folder(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / ".run.json.part").write_text('{"sett')
    assert RunFolder(tmp_path).check({}) is False
    with RunFolder(tmp_path).held({"settings": {}}, resume=False):
        pass
    assert RunFolder(tmp_path).check({"settings": {}}) is True


def test_a_folder_is_whole_or_what_it_was(tmp_path):
    folder = tmp_path / "model"
    for content in ("one", "two"):
        part = unfinished(folder)
        part.mkdir()
        (part / "weights").write_text(content)
        assert folder.is_dir() is (content == "two")
        finish(folder)
        assert (folder / "weights").read_text() == content
    begun = unfinished(folder)
    begun.mkdir()
    with RunFolder(tmp_path).held({}, resume=True):
        assert not begun.exists(), "its room is given back"
    assert (folder / "weights").read_text() == "two"


def test_a_best_model_that_a_kill_took_is_looked_for_again(tmp_path):
    write_json(tmp_path / BEST_FILE, {"step": 5, "score": 1.0, "metrics": {}})
    rule = parse_rule("max model_utility")
    assert KeepBest(rule, tmp_path, {}, print).best is None
    (tmp_path / "best").mkdir()
    assert KeepBest(rule, tmp_path, {}, print).best.step == 5


def curve(world):
    for name in ("one", "two"):
        summary = {"command": "evaluate", "suite": "own", "metrics": {"a": 1.0}, "model": {}}
        write_json(world / name / "summary.json", summary)
    return ["evaluate", "--curve", world / "one", world / "two", "--out", world / "out"]


WRITERS = {name: make for name, make in COMMANDS.items() if name != "dry run"} | {
    "curve": curve,
    "demo": lambda w: ["demo", "--out", w / "out"],
}


@pytest.mark.parametrize("command", sorted(WRITERS.keys() - {"requests init"}))
def test_a_second_process_is_refused(gru, world, command):
    (world / "out").mkdir()
    with FileLock(world / "out" / ".lock"):
        code, _, err = gru(*WRITERS[command](world))
    assert (code, "is in use by another process" in err) == (2, True), err
    assert [file.name for file in (world / "out").iterdir()] == [".lock"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_bad_input(gru, world):
    (world / "closed").mkdir(mode=0o500)
    code, _, err = gru("plan", "--out", world / "closed" / "out")
    assert (code, "cannot be written (Permission denied)" in err) == (2, True)


# --- writing ---------------------------------------------------------------------------------------------------------


def test_a_file_is_the_old_one_or_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    write_text(path, "old")
    assert path.stat().st_mode & 0o777 == 0o666 & ~current_umask()
    monkeypatch.setattr("os.fsync", fail_with(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["summary.json"]


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def fail_with(error):
    def fail(*_, **__):
        raise error

    return fail


NO_ROOM = {
    "system": OSError(errno.ENOSPC, "No space left on device"),
    "quota": OSError(errno.EDQUOT, "Disk quota exceeded"),
    "safetensors": Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
    "torch": RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
}


@pytest.mark.parametrize("error", NO_ROOM.values(), ids=NO_ROOM.keys())
def test_a_full_disk_is_one_line_and_exit_4(gru, tmp_path, monkeypatch, error):
    monkeypatch.setattr("gru_unlearn.results.file_model.write_json", fail_with(error))
    code, _, err = gru("plan", "--out", tmp_path / "out")
    assert (code, err.count("\n")) == (4, 1)
    assert f"no room left to write in {tmp_path / 'out'} (" in err
    monkeypatch.setattr("gru_unlearn.results.run_folder.RunFolder.held", fail_with(error))
    code, _, err = gru("plan", "--out", tmp_path / "other")
    assert (code, "no room left to write (" in err) == (4, True)


def test_an_error_that_only_follows_from_a_full_disk_counts_and_others_do_not():
    error = ValueError("not saved")
    error.__context__ = OSError(errno.ENOSPC, "No space left on device")
    assert is_no_room(error)
    assert not is_no_room(OSError(errno.EACCES, "Permission denied"))
    assert not is_no_room(RuntimeError("PytorchStreamReader failed reading zip archive"))


# --- secrets and forget text -----------------------------------------------------------------------------------------

TOKEN = "hf_aVerySecretToken"


@pytest.mark.parametrize("where", ["flag", "recipe"])
def test_a_hub_token_is_no_setting(gru, world, where):
    (world / "recipe.yaml").write_text(f"hub_token: {TOKEN}\n")
    given = ["--hub-token", TOKEN] if where == "flag" else [world / "recipe.yaml"]
    code, out, err = gru("unlearn", *flags(world), *given, "--output-dir", world / "out")
    assert (code, "hub_token: secrets are not settings" in err) == (2, True)
    assert TOKEN not in out + err
    assert not (world / "out").exists()


def test_a_hub_token_of_a_trainer_reaches_no_file(world):
    config = UnlearningConfig(
        output_dir=str(world / "out"), hub_token=TOKEN, max_steps=1, save_steps=1, use_cpu=True, report_to="none"
    )
    trainer = UnlearningTrainer(
        tiny.model(), config, forget_dataset=tiny.rows(4), retain_dataset=tiny.rows(4, start=6),
        processing_class=tiny.tokenizer(),
    )  # fmt: skip
    trainer.train()
    trainer.save_model(str(world / "saved"))
    files = [file for folder in ("out", "saved") for file in (world / folder).rglob("*") if file.is_file()]
    assert len(files) > 10
    assert not [file for file in files if TOKEN.encode() in file.read_bytes()]
    assert TOKEN not in str(config.to_dict())


HOLD_TEXT = {"examples.json", "report.html"}
"""Files of a run that show rows, unless report_examples is 0."""


@pytest.mark.parametrize("shown", [64, 0])
def test_forget_text_is_in_no_log_and_in_no_other_file(gru, world, shown):
    extra = ["--objective", "npo", "--save-steps", "1", "--report-examples", shown, "--output-dir", world / "out"]
    code, out, err = gru("unlearn", *flags(world), *FAST, *extra)
    assert code == 0, err
    row = json.loads((world / "forget.jsonl").read_text().splitlines()[0])
    texts = [row[field].encode() for field in ("question", "answer")]
    assert not [text for text in texts if text in (out + err).encode()]
    holding = {file.name for file in (world / "out").rglob("*") if file.is_file() and holds(file, texts)}
    assert holding <= (HOLD_TEXT if shown else set())
    assert bool(holding) is bool(shown)


def test_text_of_rows_is_no_markup_in_the_report(gru, world):
    script = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    row = {"question": f"who is {script} ?", "answer": f"Ada {script}"}
    (world / "forget.jsonl").write_text(json.dumps(row) + "\n")
    code, _, err = gru("unlearn", *flags(world), *FAST, "--max-length", "128", "--output-dir", world / "out")
    assert code == 0, err
    page = (world / "out" / "report.html").read_text()
    assert "alert(1)" in page
    assert "<script>alert" not in page
    assert "<img src=x" not in page


def holds(file, texts):
    return any(text in file.read_bytes() for text in texts)


PRIVATE = "Ada lives in the red one"


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"question": "who ?", "answer": [PRIVATE]}),
        json.dumps({"question": {PRIVATE: 1}, "answer": "a"}),
        json.dumps({"text": [PRIVATE]}),
        json.dumps({"messages": [{"role": "user", "content": [PRIVATE]}]}),
        json.dumps({"messages": PRIVATE}),
        json.dumps({"prompt": PRIVATE, "completion": None}),
        f'{{"question": "{PRIVATE}"',
        f'{{"question": "{PRIVATE}", "answer": " "}}',
    ],
)
def test_bad_rows_are_named_by_place_and_not_by_content(gru, world, content):
    (world / "forget.jsonl").write_text(content + "\n")
    code, out, err = gru("unlearn", *flags(world), "--dry-run")
    assert (code, PRIVATE in out + err) == (2, False), err
    assert re.search(r"(row|line) 1", err)


def test_kept_scores_are_for_their_owner_alone(gru, world, monkeypatch):
    monkeypatch.setenv("GRU_UNLEARN_CACHE", str(world / "cache"))
    code, _, err = gru(*COMMANDS["evaluate"](world))
    assert code == 0, err
    assert (world / "cache" / "scores").stat().st_mode & 0o777 == 0o700
    assert list((world / "cache" / "scores").glob("*.parquet"))
