"""Where ``report_to`` sends a run's numbers, each where it is installed, and that nobody is asked to log in."""

import json
import os
import sqlite3
import subprocess
import sys
from importlib.util import find_spec

import pytest
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

import tiny
from gru_unlearn import UnlearningConfig
from gru_unlearn.common import trackers
from gru_unlearn.common.trackers import TRACKERS, require_trackers
from gru_unlearn.errors import UserError
from gru_unlearn.runs.run_models import show_elsewhere

OURS = {"forget_loss", "retain_loss", "conflict_rate", "cosine", "removed_share", "retain_change"}
"""What a run logs beyond what every training does."""


def run_with(tracker, folder, monkeypatch):
    """A run of two steps that reports to it and to nobody on a network."""
    for name, value in {
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(folder),
        "WANDB_SILENT": "true",
        "TRACKIO_DIR": str(folder / "trackio"),
        "TENSORBOARD_LOGGING_DIR": str(folder / "board"),
    }.items():
        monkeypatch.setenv(name, value)  # first: some look when they are imported
    module = pytest.importorskip(tracker, reason=f"needs the package: pip install {tracker}")
    run = tiny.trainer(
        folder / "run", tiny.model(), report_to=[tracker], max_steps=2, run_name="two-steps", use_cpu=True
    )
    run.train()
    run.log({"eval_forget_prob": 0.5})  # as the evaluations of a run log it
    return module


def test_tensorboard_shows_the_runs_own_numbers(tmp_path, monkeypatch):
    run_with("tensorboard", tmp_path, monkeypatch)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415

    board = EventAccumulator(str(tmp_path / "board")).Reload()
    assert {"eval/forget_prob", *(f"train/{name}" for name in OURS)} <= set(board.Tags()["scalars"])
    assert [event.step for event in board.Scalars("train/forget_loss")] == [1, 2]
    settings = "".join(part.decode() for part in board.Tensors("args/text_summary")[0].tensor_proto.string_val)
    assert json.loads(settings)["rectification"] == "gru"


def test_wandb_keeps_the_run_offline(tmp_path, monkeypatch):
    wandb = run_with("wandb", tmp_path, monkeypatch)
    seen = set(wandb.run.summary.keys())
    assert wandb.run.name == "two-steps"
    wandb.finish()
    assert {"eval/forget_prob", *(f"train/{name}" for name in OURS)} <= seen
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


def test_trackio_keeps_the_run_in_a_file(tmp_path, monkeypatch):
    run_with("trackio", tmp_path, monkeypatch)
    (file,) = (tmp_path / "trackio").glob("*.db")
    rows = [json.loads(row) for (row,) in sqlite3.connect(file).execute("select metrics from metrics")]
    assert {"eval/forget_prob", *(f"train/{name}" for name in OURS)} <= set().union(*rows)
    assert [row["train/global_step"] for row in rows if "train/forget_loss" in row] == [1, 2]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"report_to": ["trackio"]}, "first"),
        ({"report_to": ["trackio"], "run_name": "mine"}, "mine"),
        ({"report_to": []}, None),
    ],
)
def test_a_run_without_a_name_is_called_like_its_folder(tmp_path, given, named):
    config = UnlearningConfig(output_dir=str(tmp_path / "first"), use_cpu=True, **given)
    show_elsewhere(config)
    assert (config.run_name, config.disable_tqdm) == (named, True)


# --- what is missing is said before the work ------------------------------------------------------------------------


def test_every_tracker_has_its_package():
    assert set(TRACKERS) == set(INTEGRATION_TO_CALLBACK)


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_package_is_named_in_one_line(monkeypatch, name):
    monkeypatch.setattr(trackers, "find_spec", lambda _: None)
    with pytest.raises(UserError) as told:
        require_trackers(["none", name])
    assert f"pip install {TRACKERS[name].package}, or leave it out" in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", [name for name in TRACKERS if not any(map(find_spec, TRACKERS[name].modules))])
def test_a_run_is_refused_where_it_is_missing(gru, tmp_path, name):
    tiny.save(tmp_path / "model")
    (tmp_path / "rows.jsonl").write_text(json.dumps(tiny.rows(1)[0]))
    given = ["--model", tmp_path / "model", "--forget", tmp_path / "rows.jsonl", "--output-dir", tmp_path / "out"]
    code, _, err = gru("unlearn", *given, "--report-to", name, "--use-cpu")
    assert (code, err.count("\n")) == (2, 1), err
    assert f"--report-to {name} needs the package" in err


CONFIGURE = """
import sys
from gru_unlearn import UnlearningConfig
from gru_unlearn.errors import UserError
from gru_unlearn.training.packages import require_packages
try:
    require_packages(UnlearningConfig(output_dir=sys.argv[1], use_cpu=True, report_to=["wandb"]))
    print("accepted")
except UserError as refused:
    print(refused)
"""


@pytest.mark.parametrize(("mode", "told"), [("online", "nobody is logged in: log in with `wandb login`, or set WANDB"),
                                            ("offline", "accepted"), ("disabled", "accepted")])  # fmt: skip
def test_wandb_asks_nobody_to_log_in(tmp_path, mode, told):
    """In a home where nobody is: it would ask there, or give up, once the training begins."""
    pytest.importorskip("wandb", reason="needs the package: pip install wandb")
    nobody = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    nobody |= {"HOME": str(tmp_path), "WANDB_MODE": mode, "WANDB_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", CONFIGURE, str(tmp_path / "run")], env=nobody, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    assert told in done.stdout
