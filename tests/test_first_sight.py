"""Slips are told before heavy libraries are imported, and what is told is what the settings themselves say."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gru_unlearn.attacks import attack_request
from gru_unlearn.attacks.attack_job import ATTACKS
from gru_unlearn.benchmark import evaluation_request
from gru_unlearn.capacity.model_shape import PRESETS
from gru_unlearn.cli.main import app
from gru_unlearn.common import places
from gru_unlearn.common.places import check_model_place, check_rows_place
from gru_unlearn.data import read_rows
from gru_unlearn.data.people import make_people
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation.harness import HARNESS_TASKS
from gru_unlearn.evaluation.metrics import ROUGE_WORDS
from gru_unlearn.models.locating import locate
from gru_unlearn.models.pretrained import KNOWN
from gru_unlearn.planning import plan_request
from gru_unlearn.runs import setting_names
from gru_unlearn.runs.recipe import _convert
from gru_unlearn.runs.recipe import setting_names as all_settings
from gru_unlearn.runs.setting_groups import INHERITED, grouped_settings
from gru_unlearn.runs.setting_names import check_choice, known_settings
from gru_unlearn.training.setting_limits import CHOICES

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

HEAVY = {"torch", "transformers", "datasets", "scipy", "numpy"}

SLIPS = {
    "unlearn --modle x": "unknown setting 'modle'; did you mean 'model'?",
    "unlearn --model=m --forget f.jsonl --objective nppo": "unknown objective 'nppo'; did you mean 'npo'?",
    "unlearn --model m --forget f.jsonl --rectification gruu": "unknown rectification 'gruu'; did you mean 'gru'?",
    "unlearn --model m --forget f.jsonl --robust spektral=0.5": "unknown robust 'spektral'; did you mean 'spectral'?",
    "unlearn --model m --forget f.jsonl --retain-loss nl": "unknown retain_loss 'nl'; did you mean 'nll'?",
    "unlearn --model m --forget f.jsonl --learning-rate fast": "learning_rate: input should be a valid number",
    "unlearn --model m": "no forget given: pass --forget",
    "unlearn --forget f.jsonl": "no model given: pass --model",
    "finetune --train f.jsonl": "no model given: pass --model",
    "unlearn --model nowhere --forget f.jsonl": "--model nowhere: no such folder",
    "unlearn --model runs/frist --forget f.jsonl": "--model runs/frist: no such folder; did you mean 'first'?",
    "unlearn --model builtin:targt --forget f.jsonl": "builtin:targt: the built-in models are builtin:target, builtin:",
    "unlearn --model m --forget g.jsonl": "g.jsonl: no such file",
    "unlearn --model builtin:target --forget builtin:forgt": "builtin:forgt: no such set in the built-in benchmark",
    "unlearn --model pretrained:smollm --forget f.jsonl": "no pretrained model is known by that name; did you mean 's",
    "unlearn --model m --forget notes.txt": "notes.txt is plain text without rows: write each passage as a line",
    "unlearn --model m --forget f.jsonl --dtype flot32": "unknown dtype 'flot32'; did you mean 'float32'?",
    "unlearn --model m --forget f.jsonl --dtype float16": "dtype float16: gradients and steps overflow or vanish",
    "unlearn --model m --forget f.jsonl --optim adamww": "unknown optim 'adamww'; did you mean 'adamw_8bit'?",
    "unlearn --model m --forget f.jsonl --optim lomo": "optim lomo has no place here: it steps inside backward",
    "unlearn --model m --forget f.jsonl --report-to wandbb": "unknown report_to 'wandbb'; did you mean 'wandb'?",
    "unlearn --model m --forget f.jsonl --report-to dvclive": "--report-to dvclive needs the package dvclive, wh",
    "finetune reported.yaml --model m --train f.jsonl": "--report-to dvclive needs the package dvclive, which",
    "unlearn --model m --forget f.jsonl --lr-scheduler-type cosin": "unknown lr_scheduler_type 'cosin'; did you mean",
    "unlearn --model m --forget f.jsonl --eval-strategy step": "unknown eval_strategy 'step'; did you mean 'steps'?",
    "unlearn --model m --forget f.jsonl --save-strategy best": "save_strategy best has no place here",
    "unlearn --model m --forget f.jsonl --logging-strategy epok": "unknown logging_strategy 'epok'; did you mean",
    "unlearn --model m --forget f.jsonl --log-level inf": "unknown log_level 'inf'; did you mean 'info'?",
    "unlearn --model m --forget f.jsonl --retain-choice neer": "unknown retain_choice 'neer'; did you mean 'near'?",
    "finetune --model m --train nope.jsonl": "nope.jsonl: no such file",
    "finetune --model m --train f.jsonl+nope.jsonl": "nope.jsonl: no such file",
    "finetune --model m --train f.jsonl --without builtin:forgt": "builtin:forgt: no such set in",
    "finetune --model m": "no train given: pass --train, or set it in the recipe",
    "finetune --model m --train f.jsonl --objective npo": "--objective has no meaning in gru finetune: a fine-tuning",
    "finetune train-missing.yaml --model m": "nope.jsonl: no such file",
    "finetune train-one-missing.yaml --model m": "nope.jsonl: no such file",
    "finetune train-both-missing.yaml --model m": "nope.jsonl: no such file",
    "finetune train-joined.yaml --model m": "nope.csv: no such file",
    "finetune train-number.yaml --model m": "train: input should be a valid tuple",
    "finetune train-mixed.yaml --model m": "train: input should be a valid string",
    "finetune train-empty.yaml --model m": "the name of a data file or data set is empty",
    "finetune train-none.yaml --model m": "no train given: pass --train, or set it in the recipe",
    "finetune train-text.yaml --model m": "notes.txt is plain text without rows",
    "finetune without.yaml --model m --train f.jsonl": "builtin:forgt: no such set in the built-in benchmark",
    "finetune learnt.yaml --model m --train f.jsonl": "--stop-at-prob must be between 0 and 1, got 7",
    "finetune train-missing.yaml --model m --train g.jsonl": "g.jsonl: no such file",
    "finetune of-unlearning.yaml --train f.jsonl": "--forget has no meaning in gru finetune: name the rows to learn",
    "unlearn --model m --forget f.jsonl --retain d:f9": "d: no data file 'f9'",
    "unlearn --model m --forget f.jsonl[:2] --held-out nope.csv[:9]": "nope.csv: no such file",
    "unlearn missing.yaml": "recipe missing.yaml cannot be read",
    "unlearn slip.yaml": "unknown setting 'lerning_rate'; did you mean 'learning_rate'?",
    "unlearn hello": "unexpected argument 'hello'",
    "tru --model m --forget g.jsonl": "g.jsonl: no such file",
    "compare --rectification gruu": "unknown rectification 'gruu'; did you mean 'gru'?",
    "compare --objectives npo,simnp": "unknown objective 'simnp'; did you mean 'simnpo'?",
    "compare --rectifications none,gru@seed=1,pcgrd/layer": "unknown rectification 'pcgrd'; did you mean 'pcgrad'?",
    "compare --robustness none,drif=1": "unknown robust 'drif'; did you mean 'drift'?",
    "evaluate": "no model given: pass --model",
    "evaluate --model nowhere": "--model nowhere: no such folder",
    "evaluate --modl x": "No such option '--modl'",
    "evaluate --model m --suite own --forget g.jsonl": "g.jsonl: no such file",
    "evaluate --model m --suite toufu": "unknown suite 'toufu'; did you mean 'tofu'?",
    "evaluate --model m --suite muse": "--suite muse needs --data, a folder in MUSE's layout",
    "evaluate --model m --suite own": "--suite own needs --forget, a file of your rows",
    "evaluate --model m --fold train": "--fold belongs to --suite lume, not to --suite builtin",
    "evaluate --model m --dtype float61": "unknown dtype 'float61'; did you mean 'float16'?",
    "evaluate --model m --rouge-words asci": "unknown rouge-words 'asci'; did you mean 'ascii'?",
    "attack nowhere": "nowhere: no such folder",
    "attack runs/first --attacks relern": "unknown attack 'relern'; did you mean 'relearning'?",
    "attack runs/first --attacks ,": "no attack given: --attacks takes some of relearning,",
    "attack runs/first --dtype flot32": "unknown dtype 'flot32'; did you mean 'float32'?",
    "attack --model m": "no target given: name a run (gru attack RUN), or pass --target",
    "attack --model m --prefixes nowhere.txt": "--prefixes nowhere.txt: no such file",
    "report nowhere": "nowhere: no such folder",
    "export nowhere --out x": "nowhere: no such folder",
    "export runs/first --out m": "--out m is there already and is not empty: name a new folder",
    "export runs/first --out x --dtype float31": "unknown dtype 'float31'; did you mean 'float32'?",
    "export runs/first --out x --patch-rank 2": "--patch-rank, --patch-error and --patch-parts go with --patch",
    "export runs/first --out x --evaluation nowhere": "nowhere: no such folder",
    "requests init new --model nowhere": "--model nowhere: no such folder",
    "requests add kept --forget g.jsonl": "g.jsonl: no such file",
    "requests add new --forget f.jsonl": "new holds no ledger: gru requests init new ... makes one",
    "requests run /nope": "/nope holds no ledger: gru requests init /nope ... makes one",
    "requests show /nope": "/nope holds no ledger",
    "requests verify m": "m holds no ledger",
    "requests change kept": "nothing to change: name a setting, such as --learning-rate 1e-5",
    "requests change kept --utility-floor 7": "--utility-floor must be above 0 and at most 1, got 7.0",
    "plan --gpus 0": "--gpus must be at least 1, got 0",
    "plan --model nope": "--model nope: no such file or folder; presets are llama-1b, llama-8b, llama-70b",
    "plan --model builtin:targt": "the built-in models are builtin:target",
    "plan --rectification gruu": "unknown rectification 'gruu'; did you mean 'gru'?",
    "plan --gpu-memory 80foo": "'80foo' is no amount of memory: expected something like 80GiB or 24GB",
    "unlear": "No such command 'unlear'",
}

RECIPES = {
    "slip": "lerning_rate: 1",
    "reported": "report_to: [none, dvclive]",
    "train-missing": "train: nope.jsonl",
    "train-one-missing": "train: [f.jsonl, nope.jsonl]",
    "train-both-missing": "train: [nope.jsonl, neither.jsonl]",
    "train-joined": "train: f.jsonl+nope.csv",
    "train-number": "train: 7",
    "train-mixed": "train: [f.jsonl, 7]",
    "train-empty": "train: ['']",
    "train-none": "train:",
    "train-text": "train: notes.txt",
    "without": "without: builtin:forgt",
    "learnt": "stop_at_prob: 7",
    "of-unlearning": "{model: m, forget: f.jsonl}",
}

COMPLETIONS = {
    "": {"demo", "unlearn", "attack", "report"},
    "unlearn --learning-r": {"--learning-rate"},
    "unlearn --objective sim": {"simnpo"},
    "unlearn --rectification rec": {"recommended"},
    "unlearn --robust ": {"none", "recommended", "spectral", "drift"},
    "requests ": {"init", "add", "run", "show"},
    "requests change --learning-r": {"--learning-rate"},
    "compare --objectives nppo --robustn": {"--robustness"},
}

RUN_ALL = """
import contextlib, io, json, sys
from gru_unlearn.cli.main import main
told = {}
for line in json.load(sys.stdin):
    sys.argv, err = ["gru", *line.split()], io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(err):
        try:
            main()
        except SystemExit as stopped:
            told[line] = [stopped.code, err.getvalue()]
print(json.dumps([told, sorted(sys.modules)]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, rows, a folder of rows, a run, and recipes with slips."""
    at = tmp_path_factory.mktemp("sight")
    for name in ("m", "d", "runs/first", "kept"):
        (at / name).mkdir(parents=True)
    (at / "runs/first/run.json").write_text("{}")
    (at / "m/config.json").write_text("{}")
    (at / "kept/ledger.sqlite").write_text("")
    (at / "notes.txt").write_text("x")
    (at / "f.jsonl").write_text('{"question": "a", "answer": "b"}\n')
    (at / "d/f1.jsonl").write_text("")
    for name, content in RECIPES.items():
        (at / f"{name}.yaml").write_text(content)
    return at


@pytest.mark.parametrize("typed", COMPLETIONS)
def test_a_shell_completes_commands_flags_and_names(typed):
    *before, begun = typed.split(" ")
    offered = ShellComplete(app, {}, "gru", "_GRU_COMPLETE").get_completions(before, begun)
    assert COMPLETIONS[typed] <= {one.value for one in offered}
    assert all(one.value.startswith(begun) for one in offered)


def test_a_slip_is_told_before_anything_heavy_is_imported(folder):
    asked = json.dumps(list(SLIPS))
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL], input=asked, cwd=folder, capture_output=True, text=True, check=True
    )
    told, modules = json.loads(done.stdout)
    for line, message in SLIPS.items():
        code, said = told[line]
        assert (code, said.count("\n")) == (2, 1), (line, said)
        assert message in said, line
    assert not HEAVY & set(modules)


def test_the_first_line_comes_before_anything_heavy(folder):
    """The import of torch is where the program is stopped: what was said by then is what a person reads first."""
    code = (
        "import sys\nfrom gru_unlearn.cli.main import main\n"
        "class Stop:\n def find_spec(self, name, *_):\n  if name == 'torch': raise SystemExit(77)\n"
        "sys.meta_path.insert(0, Stop())\nsys.argv = ['gru', *sys.argv[1:]]\nmain()"
    )
    for command in ("unlearn --model m --forget f.jsonl", "evaluate --model m", "attack runs/first", "demo", "plan"):
        done = subprocess.run(
            [sys.executable, "-c", code, *command.split()], cwd=folder, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (77, f"gru {command.split()[0]}: loading libraries ...\n"), done.stderr


def test_the_table_of_settings_is_what_the_settings_are():
    from known_settings import as_text  # noqa: PLC0415
    from known_settings import known_settings as read_off  # noqa: PLC0415

    written = setting_names.FILE.read_text()
    known = read_off() | {"transformers": json.loads(written)["transformers"]}
    assert written == as_text(known), "python tools/known_settings.py writes it anew"


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_no_name_that_a_setting_takes_is_refused_at_first_sight(data):
    name = data.draw(st.sampled_from([one for one in all_settings() if one not in NOT_ONE_OF_A_LIST]))
    value = data.draw(st.sampled_from(WORDS) | st.text(max_size=4))
    if refusal_of(partial(_convert, name), value) is None:
        check_choice(name, value)


def test_no_list_of_another_transformers_is_held_against_a_name(monkeypatch):
    known = known_settings()._replace(transformers="0.1")
    monkeypatch.setattr(setting_names, "known_settings", lambda: known)
    check_choice("optim", "of_another_version")
    with pytest.raises(UserError, match="unknown objective"):
        check_choice("objective", "nppo")


def test_the_names_known_at_first_sight_are_those_that_there_are():
    assert set(places.BUILTIN_ROWS) == set(make_people())
    assert set(places.PRETRAINED_MODELS) == set(KNOWN)
    assert set(attack_request.ATTACK_NAMES) == set(ATTACKS)
    assert set(evaluation_request.OF_THE_HARNESS) == set(HARNESS_TASKS)
    assert set(evaluation_request.COUNTED_AS_WORDS) == set(ROUGE_WORDS)
    assert set(plan_request.PRESETS) == set(PRESETS)


def test_every_setting_is_a_flag_and_stands_in_one_group():
    flags = {parameter.name for parameter in app.commands["unlearn"].all_settings}
    assert set(all_settings()) | set(setting_names.old_names()) == flags
    groups = grouped_settings()
    listed = [name for names in groups.values() for name in names]
    assert sorted([*listed, *setting_names.known_settings().refused]) == sorted(all_settings())
    ours = all_settings()[: all_settings().index("logging_nan_inf_filter") + 1]
    assert not set(ours) & set(groups[INHERITED]), "settings of this project have groups of their own"


NOT_ONE_OF_A_LIST = {*CHOICES, "rectification", "robust"}
"""Settings whose names are checked where a configuration is made."""

WORDS = sorted({word for names in setting_names.known_settings().inherited_choices.values() for word in names})

NAMES = st.text("ab./~:[]0é \n", max_size=12)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(source=NAMES)
def test_what_a_name_shows_to_be_no_rows_is_what_reading_refuses(source, monkeypatch, tmp_path):
    """Whatever is refused at first sight is refused by reading, in the same words."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gru_unlearn.data.sources._read_hub", lambda source: [])
    told = refusal_of(check_rows_place, source)
    assert told in (None, refusal_of(read_rows, source))


def refusal_of(look, source):
    """What a look at a source says against it; None: nothing."""
    try:
        look(source)
    except UserError as refused:
        return str(refused)
    return None


@pytest.mark.parametrize("model", ["nowhere", "./a/b", "/a/b", "a/b/c", "~/nowhere", "builtin:x", "f.jsonl"])
def test_what_a_name_shows_to_be_no_model_is_what_looking_for_it_refuses(folder, monkeypatch, model):
    monkeypatch.chdir(folder)
    with pytest.raises(UserError) as told:
        check_model_place(model)
    with pytest.raises(UserError) as refused:
        locate(model)
    assert str(refused.value) == str(told.value)
