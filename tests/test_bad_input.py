"""Bad input of every kind to every command: exit code 2, one line that says what and where, and nothing touched."""

import json
import shlex
import shutil

import pytest
import yaml
from rich.console import Console

import tiny
from gru_unlearn.runs.recipe import make_recipe
from gru_unlearn.runs.run_preparation import prepare
from gru_unlearn.runs.unlearn_job import unlearn

# --- the world: what a user may have on disk --------------------------------------------------------------------------


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


GOOD_ROW = '{"question": "who ?", "answer": "Ada ."}\n'

FULL = {"paraphrased_answer": "Ada .", "perturbed_answer": ["Bob .", "Dan ."]}

FILES = {
    "full.jsonl": lines([{**row, **FULL} for row in tiny.rows(6)]),
    "forget.jsonl": lines(tiny.rows(6)),
    "retain.jsonl": lines(tiny.rows(12, start=6)),
    "held.jsonl": lines(tiny.rows(6, start=18)),
    "broken.jsonl": GOOD_ROW + '{"question": \n',
    "broken.json": '[{"question": "q"},\n{]',
    "latin1.jsonl": '{"question": "où ?", "answer": "là"}'.encode("latin-1"),
    "utf16.jsonl": GOOD_ROW.encode("utf-16"),
    "binary.jsonl": bytes(range(256)),
    "empty.jsonl": "",
    "blank.jsonl": "\n \n",
    "text.jsonl": GOOD_ROW + '"just text"\n',
    "numbers.json": "[1, 2]",
    "deep.json": "[" * 50_000,
    "deep.jsonl": GOOD_ROW + '{"a":' * 50_000,
    "digits.jsonl": '{"question": ' + "9" * 5000 + "}\n",
    "surrogate.jsonl": r'{"question": "who ?", "answer": "\ud800"}',
    "fields.jsonl": '{"q": "who", "a": "me"}\n',
    "half.jsonl": GOOD_ROW + '{"question": "q"}\n',
    "blank-answer.jsonl": '{"question": "q", "answer": " "}\n',
    "number-answer.jsonl": '{"question": "q", "answer": 3}\n',
    "user-last.jsonl": '{"messages": [{"role": "user", "content": "q"}]}',
    "unknown-role.jsonl": '{"messages": [{"role": "bot", "content": "q"}]}',
    "no-list.jsonl": '{"messages": "hi"}',
    "no-content.jsonl": '{"messages": [{"role": "user"}, {"role": "assistant", "content": "a"}]}',
    "cell.csv": "question,answer\nq\n",
    "huge-cell.csv": 'question,answer\nq,"' + "a" * 200_000,
    "not.parquet": "hello",
    "twins/a.jsonl": GOOD_ROW,
    "twins/b.jsonl": GOOD_ROW,
    "dataset/state.json": "{}",
    "recipes/broken.yaml": "a: [1\nb: }",
    "recipes/list.yaml": "- 1\n- 2\n",
    "recipes/empty.yaml": "",
    "recipes/key.yaml": "forgets: x\n",
    "recipes/number-key.yaml": "1: x\n",
    "recipes/twice.yaml": "learning_rate: 1e-5\nobjective: npo\nlearning_rate: 1e-4\n",
    "recipes/object.yaml": "model: !!python/object/apply:os.system ['touch W/pwned']\n",
    "recipes/date.yaml": "model: 2024-13-45\n",
    "recipes/deep.yaml": "model: " + "[" * 1500,
    "recipes/itself.yaml": "model: &a [*a]\n",
    "recipes/list-key.yaml": "? [1, 2]\n: x\n",
    "recipes/binary.yaml": b"\xff\xfe\x00\x01",
    "recipes/nul.yaml": "model: a\0b\n",
    "recipes/types.yaml": "model: [1, 2]\nforget: x\n",
    "recipes/mapping.yaml": "model: m\nforget: f\nlearning_rate: {peak: 1}\n",
    "thesis/chapter.txt": "mine",
    "prefixes.txt": "\n",
    "evaluation/summary.json": "{broken",
    "other-run/summary.json": '{"command": "unlearn"}',
    "list-run/summary.json": "[]",
    "started/run.json": "{}",
}


def with_config(world, name, **changes):
    """A copy of the model under another name, with a changed config.json."""
    shutil.copytree(world / "model", world / name)
    config = world / name / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    return world / name


def make_models(world):
    """Every way in which a model's folder can be wrong."""
    tiny.save(world / "model")
    tiny.save(world / "other", seed=3)
    weights = (world / "model" / "model.safetensors").read_bytes()
    (world / "nothing").mkdir()
    (with_config(world, "pickle") / "model.safetensors").rename(world / "pickle" / "pytorch_model.bin")
    for name, content in {"corrupt": b"\x08" * 4000, "truncated": weights[:-1000], "hollow": b""}.items():
        (with_config(world, name) / "model.safetensors").write_bytes(content)
    for file in (*with_config(world, "speechless").glob("*token*"), world / "speechless" / "chat_template.jinja"):
        file.unlink()
    (with_config(world, "garbled") / "tokenizer.json").write_text('{"model": 3}')
    (with_config(world, "config-broken") / "config.json").write_text("{")
    (with_config(world, "config-list") / "config.json").write_text("[]")
    with_config(world, "unheard-of", model_type="never-heard")
    code = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (with_config(world, "code", model_type="evil", auto_map=code) / "evil.py").write_text("open('pwned', 'w')\n")
    shards = {"weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors"}}
    (with_config(world, "shards") / "model.safetensors.index.json").write_text(json.dumps(shards))
    (world / "shards" / "model.safetensors").rename(world / "shards" / "model-00002-of-00002.safetensors")
    for name, base in (("baseless", None), ("orphan", str(world / "nowhere")), ("lonely", str(world / "nothing"))):
        shutil.copytree(world / "adapter", world / name)
        config = json.loads((world / name / "adapter_config.json").read_text())
        (world / name / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": base}))


def make_runs(world):
    """A finished run of a whole model and one of adapters."""
    settings = {
        "model": world / "model", "forget": world / "forget.jsonl", "retain": world / "retain.jsonl", "max_steps": 1,
        "per_device_train_batch_size": 6, "gradient_accumulation_steps": 1, "use_cpu": True, "report_examples": 0,
    }  # fmt: skip
    for name, more in (("run", {}), ("lora", {"use_peft": True, "lora_r": 1, "lora_target_modules": "q_proj"})):
        words = {key: value if isinstance(value, bool) else str(value) for key, value in (settings | more).items()}
        unlearn(prepare(make_recipe(words | {"output_dir": str(world / name)})), Console(quiet=True))
    shutil.copytree(world / "lora" / "model", world / "adapter")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Made once: no case may change it."""
    world = tmp_path_factory.mktemp("world")
    for name, content in FILES.items():
        (world / name).parent.mkdir(exist_ok=True)
        (world / name).write_bytes(
            content if isinstance(content, bytes) else content.replace("W/", f"{world}/").encode()
        )
    tiny.save(world / "model")
    make_runs(world)
    shutil.rmtree(world / "model")
    make_models(world)
    recipe = {
        "model": "model", "retain_model": "other", "forget": "forget.jsonl", "retain": "retain.jsonl",
        "held_out": "held.jsonl",
    }  # fmt: skip
    recipe = {key: str(world / name) for key, name in recipe.items()}
    budget = {"max_steps": 6, "eval_steps": 2, "use_cpu": True}
    (world / "recipe.yaml").write_text(yaml.safe_dump(recipe | budget))
    return world


# --- the table --------------------------------------------------------------------------------------------------------
# Command, with its good flags → what is added to them (the last of two equal flags holds) → words of the message.
# W/ is the world.

TABLE = {
    "unlearn --model W/model --forget W/forget.jsonl --retain W/retain.jsonl --use-cpu=true --output-dir W/out": {
        # rows
        "--forget W/nowhere.jsonl": "nowhere.jsonl: no such file",
        "--forget W/broken.jsonl": "broken.jsonl, line 2: not valid JSON",
        "--forget W/broken.json": "broken.json, line 2: not valid JSON",
        "--forget W/latin1.jsonl": "latin1.jsonl is not UTF-8 text: byte 15",
        "--forget W/utf16.jsonl": "utf16.jsonl is not UTF-8 text",
        "--forget W/binary.jsonl": "binary.jsonl is not UTF-8 text",
        "--forget W/empty.jsonl": "empty.jsonl: no rows",
        "--forget W/blank.jsonl": "blank.jsonl: no rows",
        "--forget W/text.jsonl": "text.jsonl, line 2: expected an object",
        "--forget W/numbers.json": "numbers.json, row 1: expected an object",
        "--forget W/deep.json": "deep.json cannot be read: nested too deeply",
        "--forget W/deep.jsonl": "deep.jsonl cannot be read: nested too deeply",
        "--forget W/digits.jsonl": "digits.jsonl cannot be read: Exceeds the limit (4300 digits)",
        "--forget W/surrogate.jsonl": "surrogate.jsonl, row 1: answer must be text that UTF-8 can hold",
        "--forget W/fields.jsonl": "row 1 has the fields q, a; it needs question and answer",
        "--forget W/half.jsonl": "half.jsonl, row 2 has the fields question",
        "--forget W/blank-answer.jsonl": "row 1: answer must be text that is not empty",
        "--forget W/number-answer.jsonl": "row 1: answer must be text",
        "--forget W/user-last.jsonl": "the last message must be the assistant's answer",
        "--forget W/unknown-role.jsonl": "each message needs a role",
        "--forget W/no-list.jsonl": "messages must be a list of messages",
        "--forget W/no-content.jsonl": "row 1: messages, user must be text",
        "--forget W/cell.csv": "cell.csv, row 1 has 1 cells, the head line has 2 fields",
        "--forget W/huge-cell.csv": "huge-cell.csv, line 2: not valid CSV (field larger than field limit",
        "--forget W/not.parquet": "not.parquet cannot be read",
        "--forget W/twins": "twins must hold one data file, or name one as",
        "--forget W/nothing": "found: none",
        "--forget W/dataset": "dataset cannot be read as a saved data set",
        "--forget W:forgett": "no data file 'forgett'; did you mean 'forget'",
        "--forget W/forget.jsonl[6:]": "forget.jsonl[6:]: no rows",
        "--forget builtin:forgt": "did you mean 'forget'",
        "--forget ''": "no forget given",
        "--held-out W/forget.jsonl": "6 of 6 forget rows are also in the held_out set",
        "--retain W/forget.jsonl": "6 of 6 forget rows are also in the retain set",
        "--retain ''": "the name of a data file or data set is empty",
        "--retain ' '": "the name of a data file or data set is empty",
        "--retain ~nobody-at-all/x": "no such file, folder or hub data set",
        f"--retain {'a' * 300}": "no such file, folder or hub data set",
        "--retain a/b:c:d:e": "a hub data set is named owner/name, owner/name:CONFIG",
        "--max-length 14": "in 6 of 6 rows the answer is cut",
        "--max-length 5": "in 6 of 6 rows no answer token is left",
        # settings
        "--objective nppo": "unknown objective 'nppo'; did you mean 'npo'",
        "--rectification gruu": "did you mean 'gru'",
        "--rectification gru/elephant": "elephant",
        "--learning-rte 1": "unknown setting 'learning_rte'; did you mean 'learning_rate'",
        "--zzz 1": "--list-settings` shows all",
        "hello": "unexpected argument 'hello'",
        "--learning-rate nan": "learning_rate must be finite and above 0, got nan",
        "--learning-rate inf": "got inf",
        "--learning-rate -1e-5": "got -1e-05",
        "--learning-rate 0": "learning_rate must be finite and above 0, got 0",
        "--learning-rate fast": "learning_rate: input should be a valid number",
        "--per-device-train-batch-size 0": "per_device_train_batch_size must be at least 1, got 0",
        "--gradient-accumulation-steps 0": "gradient_accumulation_steps must be at least 1, got 0",
        "--per-device-eval-batch-size 0": "per_device_eval_batch_size must be at least 1, got 0",
        "--max-steps 2.5": "max_steps: input should be a valid integer",
        "--num-train-epochs 0": "num_train_epochs must be finite and above 0",
        "--weight-decay nan": "weight_decay must be finite",
        "--beta -1": "beta must be finite and above 0",
        "--eval-strategy sometimes": "unknown eval_strategy 'sometimes'; choose from: epoch, no, steps",
        "--eval-suite tofuu": "unknown eval_suite 'tofuu'; did you mean 'tofu'?",
        "--keep-best most --eval-strategy epoch": "--keep-best 'most' is not of the form",
        "--learning-rate 1e-4 --keep-best 'max retain_prob'": "--keep-best needs evaluations",
        "--learning-rate 1e-4 --keep-best 'min forget_prob if forget_prob <= forget_target'": (
            "--keep-best needs evaluations"
        ),
        "--keep-best 'min retain_probb' --eval-strategy epoch": "'retain_probb' in this run; did you mean 'retain_",
        "--keep-best 'min forget_prob if x >= 0' --eval-strategy epoch": "no metric 'x' in this run; choose from: ",
        "--keep-best 'max retain_prob if retain_prob > held_out_prob' --eval-strategy epoch": "metric 'held_out_prob'",
        "--keep-best 'max forget_qualitee' --eval-suite own --eval-strategy epoch": "no metric 'forget_qualitee'",
        "--keep-best 'max forget_quality' --eval-suite own --eval-strategy epoch": "forget_quality needs a",
        "--keep-best 'max forget_quality' --forget W/full.jsonl --eval-suite own --eval-strategy epoch": (
            "--keep-best reads forget_quality, which needs --retain-model"
        ),
        "--learning-rate 1e-4 --stop-when-forgotten": "--stop-when-forgotten needs evaluations along the run",
        "--learning-rate 1e-4 --stop-when-forgotten --retain-model W/other": (
            "--stop-when-forgotten needs evaluations along the run"
        ),
        # settings that would do nothing
        "--learning-rate 1e-4 --stop-at-forget-prob 0.5": (
            "needs evaluations along the run: add --eval-strategy steps --eval-steps N"
        ),
        "--lora-r 4": "--lora-r needs adapters: add --use-peft",
        "--lora-alpha 4": "add --use-peft",
        "--lora-dropout 0.1": "add --use-peft",
        "--lora-target-modules q_proj": "add --use-peft",
        "--eval-data W": "--eval-data needs a suite that reads data of its own",
        "--eval-data W --eval-suite own": "--eval-data needs a suite that reads data of its own",
        "--eval-forget-split forget05 --eval-suite builtin": "add --eval-suite tofu",
        "--eval-unseen-split holdout10": "--eval-unseen-split needs the suite that has splits: add --eval-suite tofu",
        "--hidden-module mlp": "--hidden-module needs an objective that compares activations: add --objective rmu",
        "--alternative-field other": "add --objective dpo, altpo or idk",
        "--use-cpu perhaps": "use_cpu: input should be a valid boolean",
        "--seed -1": "seed must be at least 0 and below 4294967296, got -1",
        "--adam-beta1 2": "adam_beta1 must be at least 0 and below 1, got 2",
        "--warmup-steps nan": "warmup_steps must be at least 0, got nan",
        "--seed tomorrow": "seed: input should be a valid integer",
        "--trainable-params '('": "trainable_params: '(' is not a regular expression",
        "--hidden-module '*'": "hidden_module: '*' is not a regular expression",
        "--use-peft --lora-r 0": "lora_r must be at least 1, got 0",
        "--deepspeed '{\"a\": 1}'": "FSDP2",
        "--fp16": "use bf16",
        "--dtype float12": "unknown dtype 'float12'; did you mean 'float32'",
        "--pad-token '<nope>'": "not in the tokenizer's vocabulary",
        # recipes
        "W/r.yaml": "r.yaml cannot be read: No such file",
        "W/recipes/broken.yaml": "broken.yaml, line 2: not valid YAML",
        "W/recipes/list.yaml": "expected lines of the form 'setting: value'",
        "W/recipes/empty.yaml": "expected lines of the form 'setting: value'",
        "W/recipes/number-key.yaml": "expected lines of the form 'setting: value'",
        "W/recipes/key.yaml": "unknown setting 'forgets'; did you mean 'forget'",
        "W/recipes/twice.yaml": "twice.yaml, line 3: not valid YAML (learning_rate stands there twice)",
        "W/recipes/object.yaml": "not valid YAML (could not determine a constructor for the tag",
        "W/recipes/date.yaml": "date.yaml: not valid YAML (month must be in 1..12",
        "W/recipes/deep.yaml": "deep.yaml: not valid YAML (nested too deeply)",
        "W/recipes/list-key.yaml": "not valid YAML (found unhashable key)",
        "W/recipes/binary.yaml": "binary.yaml cannot be read: not UTF-8 text",
        "W/recipes/nul.yaml": "nul.yaml",
        "W/recipes": "unexpected argument",
        # models
        "--model W/nomodel": "nomodel: no such folder",
        "--model W/forget.jsonl": "forget.jsonl: no such folder",
        "--model nowhere/at-all": "nowhere/at-all: no such folder, and the hub does not give it",
        "--model builtin:bse": "builtin:target, builtin:retain and builtin:base",
        "--model W/nothing": "not a model folder, it has no config.json",
        "--model W/pickle": "no .safetensors weights in it; other weight formats are not loaded",
        "--model W/corrupt": "model.safetensors is broken or missing",
        "--model W/truncated": "model.safetensors is broken or missing",
        "--model W/hollow": "model.safetensors is broken or missing",
        "--model W/shards": "model-00001-of-00002.safetensors is broken or missing",
        "--model W/speechless": "speechless: no configuration or tokenizer that loads",
        "--model W/garbled": "garbled: no configuration or tokenizer that loads",
        "--model W/config-broken": "its config.json cannot be read",
        "--model W/config-list": "its config.json cannot be read",
        "--model W/unheard-of": "never-heard",
        "--model W/code": "--trust-remote-code",
        "--model W/baseless": "its adapter_config.json names no base model",
        "--model W/adapter --use-peft": "adapter is a folder of adapters: merge them first",
        "--model W/orphan": "nowhere",
        "--model W/lonely": "nothing",
        "--retain-model W/truncated": "--retain-model",
        # rows that fill no batch
        "--dataloader-drop-last --per-device-train-batch-size 99": "forget rows, which fill no batch of 99",
        # output
        "--output-dir W/model": "holds files that are not a run",
        "--output-dir W/thesis --overwrite-output-dir": "holds files that are not a run",
        "--output-dir W/forget.jsonl": "is a file",
        "--output-dir W/run": "holds another run (different:",
    },
    "unlearn": {
        "": "no model given",
        "W/recipes/types.yaml": "model: input should be a valid string",
        "W/recipes/itself.yaml": "model: input should be a valid string",
        "W/recipes/mapping.yaml": "learning_rate: input should be a valid number",
        "--model W/model": "no forget given",
    },
    "evaluate --suite own --model W/model --forget W/forget.jsonl --out W/out": {
        "--suite tofuu": "unknown suite 'tofuu'; did you mean 'tofu'",
        "--suite muse": "--forget belongs to --suite own",
        "--explain forget_qualty": "did you mean 'forget_quality'",
        "--batch-size 0": "--batch-size must be at least 1",
        "--batch-size many": "Invalid value for '--batch-size'",
        "--max-length 0": "--max-length must be at least 1",
        "--dtype float31": "unknown dtype 'float31'; did you mean 'float32'",
        "--holdout-split holdout10": "--holdout-split belongs to --suite tofu, not to --suite own",
        "--data rows": "--data belongs to --suite tofu or muse or rwku or lume or builtin or wmdp or mmlu",
        "--limit 5": "--limit belongs to --suite wmdp or mmlu",
        "W/run": "folders of evaluations go with --curve",
        "--curve": "needs at least two folders",
        "--curve W/evaluation W/evaluation": "evaluation",
        "--curve W/list-run W/list-run": "list-run",
        "--model nowhere": "nowhere: no such folder",
        "--model W/truncated": "model.safetensors is broken or missing",
        "--model W/pickle": "no .safetensors weights in it",
        "--retain-model W/nothing": "--retain-model",
        "--forget W/broken.jsonl": "broken.jsonl, line 2: not valid JSON",
        "--forget ''": "--suite own needs --forget",
        "--out W/thesis": "holds files that are not a run",
        "--out W/forget.jsonl": "is a file",
        "--bogus": "No such option",
    },
    "evaluate --model W/model --out W/out": {
        "--suite tofu --data nowhere/at/all": "nowhere/at/all",
        "--suite tofu --data W/twins": "twins",
        "--suite muse": "--suite muse needs --data",
        "--suite muse --data W/twins": "twins",
        "--holdout W/retain.jsonl": "--holdout belongs to --suite own",
    },
    "compare W/recipe.yaml --output-dir W/out": {
        "--objectives npo,gaa": "unknown objective 'gaa'",
        "--rectifications none,gruu": "did you mean 'gru'",
        "--seed 1": "gru compare takes --seeds",
        "--seeds many": "--seeds many: expected how many seeds",
        "--seeds 0": "--seeds 0: expected how many seeds",
        "--rectifications ,": "--rectifications ',': expected names",
        "--learning-rates fast": "--learning-rates fast: expected 1e-4,2e-4",
        "--learning-rates -1": "learning_rate must be finite and above 0",
        "--learning-rates nan": "learning_rate must be finite and above 0",
        "--learning-rates ga=1e-4": "'ga' is not compared",
        "--objectives npo,ga --learning-rates ga=1e-4": "no learning rate for npo",
        "--learning-rates 1e-4,1.00000001e-4": "would share the folder npo-none-lr0.0001-seed0",
        "--retain-model=": "gru compare needs --retain-model",
        "--retain=": "gru compare needs --retain:",
        "--eval-strategy no": "leave eval_on_start on, and set eval_strategy",
        "--suite tofuu": "unknown suite 'tofuu'; did you mean 'tofu'",
        "--suite tofu --suite-data nowhere/at/all": "nowhere/at/all",
        "--jobs 0": "--jobs must be at least 1",
        "--rectifications gru@retain_batch_sise=8": "'retain_batch_sise' is the same for all",
        "--rectifications none,gru@max_steps=9": "'max_steps' is the same for all",
        "--rectifications gru@retain_weight=1@retain_weight=2": "sets retain_weight twice",
        "--rectifications gru@retain_batch_size": "after @ comes SETTING=VALUE",
        "--rectifications gru@new_gradient_weight=7": "new_gradient_weight must be above 0",
        "--max-stepz 3": "did you mean 'max_steps'",
        "--model nowhere": "--model nowhere: no such folder",
        "--output-dir W/thesis --overwrite-output-dir": "holds files that are not a run",
    },
    "compare": {
        "--forget W/forget.jsonl --output-dir W/out": "gru compare needs --retain-model",
        "W/recipes/twice.yaml": "learning_rate stands there twice",
    },
    "tru --model W/model --forget W/forget.jsonl --retain-model W/other --out W/out": {
        "--groups 7": "6 forget rows cannot make 7 groups",
        "--groups 1": "--groups must be at least 2",
        "--alphas 1,x": "--alphas needs numbers",
        "--alphas 1,nan": "finite and above 0, got nan",
        "--alphas ''": "--alphas needs numbers",
        "--alpha -1": "finite and above 0, got -1",
        "--granularity layer": "unknown granularity 'layer'",
        "--objective npo": "objective has no meaning in gru tru",
        "--lerning-rate 1": "unknown setting 'lerning_rate'; did you mean 'learning_rate'",
        "--retain-model ''": "nothing says how much to forget",
        "--model nowhere": "nowhere: no such folder",
        "--forget W/forget.jsonl[:1]": "at least 2 forget rows",
    },
    "plan": {
        "--model nowhere": "llama-8b",
        "--model W/config-broken": "config.json",
        "--model W/unheard-of": "never-heard",
        "--gpu-memory much": "80GiB",
        "--gpus 0": "--gpus",
        "--batch-size 0": "--batch-size",
        "--retain-batch-size 0": "--retain-batch-size",
        "--answer-share 2": "--answer-share",
        "--answer-share nan": "--answer-share",
        "--rectification grue": "grue",
    },
    "demo": {
        "--out W/thesis": "holds files that are not a run",
        "--out W/forget.jsonl": "is a file",
        "--seed one": "Invalid value for '--seed'",
    },
    "report": {
        "": "Missing argument",
        "W/nowhere": "nowhere",
        "W/thesis": "thesis",
        "W/evaluation": "cannot be read",
        "W/list-run": "list-run",
        "W/other-run": "other-run",
        "W/run --out W/thesis": "is a folder",
    },
    "attack": {
        "": "no model given: name a run (gru attack RUN), or pass --model",
        "W/thesis": "thesis is not a finished run",
        "W/evaluation": "evaluation",
        "W/list-run": "list-run",
        "W/other-run": "other-run",
        "W/run --attacks relerning": "did you mean 'relearning'",
        "W/run --attacks ,": "no attack given",
        "W/run --samples 0": "--samples must be at least 1",
        "W/run --temperature nan": "--temperature must be above 0 and finite",
        "W/run --relearning-learning-rate -1": "--relearning-learning-rate must be above 0",
        "W/run --model W/truncated": "model.safetensors is broken or missing",
        "W/run --forget W/broken.jsonl": "broken.jsonl, line 2",
        "W/run --prefixes W/nowhere.txt": "nowhere.txt",
        "W/run --prefixes W/prefixes.txt": "prefixes.txt",
        "W/run --out W/thesis": "holds files that are not a run",
    },
    "requests": {
        "init W/ledger --model W/model": "retain",
        "init W/thesis --model W/model --retain W/retain.jsonl": "thesis is not empty",
        "init W/ledger --model W/truncated --retain W/retain.jsonl": "model.safetensors is broken or missing",
        "init W/ledger --model W/model --retain W/retain.jsonl --utility-floor 2": "--utility-floor",
        "init W/ledger --model W/model --retain W/retain.jsonl --forget-ceiling nan": "--forget-ceiling",
        "init W/ledger --model W/model --retain W/retain.jsonl --lerning-rate 1": "did you mean 'learning_rate'",
        "init --model W/model": "comes first",
        "show W/thesis": "thesis holds no ledger",
        "add W/nowhere --forget W/forget.jsonl": "nowhere holds no ledger",
        "run W/thesis": "thesis holds no ledger",
        "shwo W/thesis": "No such command",
    },
    "export W/run --out W/out": {
        "--out W/thesis": "is there already and is not empty",
        "--out W/forget.jsonl": "is there already",
        "--dtype float16": "unknown dtype 'float16'; did you mean 'bfloat16'",
        "--max-shard-size huge": "--max-shard-size huge: expected a size such as 500MB",
        "--max-shard-size 0GB": "expected a size such as 500MB",
        "--merge": "there are no adapters to merge",
        "--private": "--private goes with --push",
        "--base-model mine": "--base-model mine: expected OWNER/NAME",
        "--base-model a/b/c": "--base-model: Repo id must be in the form",
        "--push ../up": "--push: Repo id",
        "--push me/mine": "--push:",
        "--evaluation W/thesis": "not a finished evaluation",
        "--evaluation W/evaluation": "summary.json cannot be read",
        "--evaluation W/run": "not a finished evaluation",
    },
    "export": {
        "W/run": "Missing option '--out'",
        "W/nowhere --out W/out": "nowhere: no such folder",
        "W/thesis --out W/out": "not a run, it has no summary.json",
        "W/started --out W/out": "the run is not finished",
        "W/list-run --out W/out": "expected an object",
        "W/evaluation --out W/out": "summary.json cannot be read",
        "W/other-run --out W/out": "is not that of gru unlearn or gru tru",
        "W/lora --out W/out --dtype bfloat16": "add --merge",
    },
    "": {
        "unlern": "No such command 'unlern'",
        "--bogus": "No such option",
    },
}

CASES = [
    (f"{command} {more}".strip(), message, f"{command.split()[0] if command else 'gru'} {more}")
    for command, cases in TABLE.items()
    for more, message in cases.items()
]


def snapshot(folder):
    """Every name, size and time of change."""
    return {path: (path.lstat().st_size, path.lstat().st_mtime_ns) for path in (folder, *folder.rglob("*"))}


@pytest.mark.parametrize(("command", "message"), [case[:2] for case in CASES], ids=[case[2] for case in CASES])
def test_bad_input_is_one_line_exit_2_and_touches_nothing(gru, world, monkeypatch, command, message):
    monkeypatch.setenv("GRU_UNLEARN_CACHE", str(world / "cache"))
    monkeypatch.chdir(world)
    words = [word.replace("W/", f"{world}/").replace("W:", f"{world}:") for word in shlex.split(command)]
    before = snapshot(world)
    code, out, err = gru(*words)
    after = snapshot(world)
    for path in sorted(after.keys() - before.keys()):  # let one case that fails not spoil the others
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    assert code == 2, (out, err)
    assert err.startswith("gru: ")
    assert err.count("\n") == 1
    assert message in err
    assert "Traceback" not in out + err
    assert after == before
