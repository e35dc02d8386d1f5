"""Slips are told before heavy libraries are imported, and what is told is what the settings themselves say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gru_unlearn.cli.main import app
from gru_unlearn.common.places import check_model_place, check_rows_place
from gru_unlearn.data import read_rows
from gru_unlearn.errors import UserError
from gru_unlearn.models.locating import locate
from gru_unlearn.runs import setting_names
from gru_unlearn.runs.recipe import setting_names as all_settings
from gru_unlearn.runs.setting_groups import INHERITED, grouped_settings

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
    "attack nowhere": "nowhere: no such folder",
    "attack --model m --prefixes nowhere.txt": "--prefixes nowhere.txt: no such file",
    "report nowhere": "nowhere: no such folder",
    "export nowhere --out x": "nowhere: no such folder",
    "requests init new --model nowhere": "--model nowhere: no such folder",
    "requests add new --forget g.jsonl": "g.jsonl: no such file",
    "plan --gpus 0": "--gpus must be at least 1, got 0",
    "unlear": "No such command 'unlear'",
}

COMPLETIONS = {
    "": {"demo", "unlearn", "attack", "report"},
    "unlearn --learning-r": {"--learning-rate"},
    "unlearn --objective sim": {"simnpo"},
    "unlearn --rectification rec": {"recommended"},
    "unlearn --robust ": {"none", "recommended", "spectral", "drift"},
    "requests ": {"init", "add", "run", "show"},
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
    """A model, rows, a folder of rows, a run, and a recipe with a slip."""
    at = tmp_path_factory.mktemp("sight")
    for name in ("m", "d", "runs/first"):
        (at / name).mkdir(parents=True)
    (at / "runs/first/run.json").write_text("{}")
    (at / "m/config.json").write_text("{}")
    (at / "f.jsonl").write_text('{"question": "a", "answer": "b"}\n')
    (at / "d/f1.jsonl").write_text("")
    (at / "slip.yaml").write_text("lerning_rate: 1\n")
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
    from known_settings import as_text, known_settings  # noqa: PLC0415

    written = setting_names.FILE.read_text()
    assert written == as_text(known_settings()), "python tools/known_settings.py writes it anew"


def test_every_setting_is_a_flag_and_stands_in_one_group():
    flags = {parameter.name for parameter in app.commands["unlearn"].all_settings}
    assert set(all_settings()) | set(setting_names.old_names()) == flags
    groups = grouped_settings()
    listed = [name for names in groups.values() for name in names]
    assert sorted([*listed, *setting_names.known_settings().refused]) == sorted(all_settings())
    ours = all_settings()[: all_settings().index("logging_nan_inf_filter") + 1]
    assert not set(ours) & set(groups[INHERITED]), "settings of this project have groups of their own"


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
