"""Killed at any moment, or out of room: nothing finished is lost, nothing half is taken for whole, the end is the same.

The campaigns kill real processes dozens of times and take minutes: ``pytest -m campaign tests/test_faults.py``.
"""

import errno
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import yaml

import tiny
from gru_unlearn.errors import StorageError
from gru_unlearn.evaluation import ScoreTable
from gru_unlearn.evaluation.cache import keep_scores
from gru_unlearn.ledger.database import Ledger
from gru_unlearn.results import file_model

KILLS = 20
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Models, rows, and a recipe of a run that checkpoints, evaluates and keeps a best model all the time."""
    folder = tmp_path_factory.mktemp("world")
    for name, rows in (("forget", tiny.rows(6)), ("retain", tiny.rows(12, start=6)), ("held", tiny.rows(6, start=18))):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "model": tiny.save(folder / "model"), "retain_model": tiny.save(folder / "other", seed=3),
        "forget": folder / "forget.jsonl", "retain": folder / "retain.jsonl", "held_out": folder / "held.jsonl",
    }  # fmt: skip
    settings = {key: str(value) for key, value in settings.items()} | {
        "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "learning_rate": 1e-4, "warmup_steps": 0,
        "use_cpu": True, "save_steps": 3, "save_total_limit": 2, "eval_strategy": "steps", "eval_steps": 10,
        "keep_best": "min forget_prob", "max_steps": 120,
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(settings))
    return folder


@pytest.fixture(scope="module")
def short(world):
    """A run of four steps: output folder and further flags → arguments."""
    flags = [
        f"--{name}={world / name}{end}" for name, end in (("model", ""), ("forget", ".jsonl"), ("retain", ".jsonl"))
    ]
    flags += ["--use-cpu", "--max-steps=4", "--save-steps=2", "--per-device-train-batch-size=4", "--warmup-steps=0"]
    flags += ["--learning-rate=1e-5"]
    return lambda out, *extra: ["unlearn", *flags, "--report-examples=0", f"--output-dir={out}", *extra]


# --- processes and their lives ---------------------------------------------------------------------------------------


def gru_process(*arguments):
    return [sys.executable, "-m", "gru_unlearn", *map(str, arguments)]


def undisturbed(command):
    """What it printed, and its seconds."""
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert came_to_its_end(done.returncode, done.stderr), done.stderr + done.stdout
    return done.stdout, time.monotonic() - started


def found(out, pattern):
    """Paths of this pattern, in folders that come and go meanwhile."""
    try:
        return list(out.glob(pattern))
    except FileNotFoundError:
        return []


def begun(pattern, without):
    """Whether there is a folder of this name in which a file is still missing."""
    return lambda out: any(not (folder / without).exists() for folder in found(out, pattern))


def exists(pattern):
    return lambda out: bool(found(out, pattern))


MOMENTS = {
    "checkpoint": begun("**/checkpoint-*", "trainer_state.json"),
    "best model": exists("**/best.unfinished"),
    "last model": exists("**/model.unfinished"),
    "model in its place": begun("**/model", "../summary.json"),
    "whole file": exists("**/.*.part"),
}
"""What is being written, in moments too short to be hit by chance."""


def live(command, out, rng, longest):
    """Start the command and kill it, at a random time or at one of the moments.

    Returns:
        When it was killed, in words; None if it came to its end before.
    """
    moment, after = rng.choice([None, None, None, *MOMENTS]), rng.uniform(0, longest)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT)
    started = time.monotonic()
    try:
        while process.poll() is None and time.monotonic() < started + (longest if moment else after):
            if moment and MOMENTS[moment](out):
                time.sleep(rng.choice([0, 0.002, 0.01]))
                break
            time.sleep(0.001 if moment else 0.02)
    finally:
        seconds = time.monotonic() - started
        if process.poll() is None:
            kill(process.pid, with_children=rng.random() < 0.7)
    said, _ = process.communicate()
    if process.returncode == -signal.SIGKILL:
        return f"{moment or 'time'} {seconds:.1f}"
    assert came_to_its_end(process.returncode, said), said
    return None


def came_to_its_end(code, said):
    """Now, or before: the last kill may have come between the summary and the report that is made from it."""
    return code == 0 or (code == 2 and "holds this run, finished" in said)


def kill(pid, *, with_children):
    """SIGKILL, with all processes that it started as when a machine goes down, or without."""
    for child in children(pid) if with_children else []:
        kill(child, with_children=True)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def children(pid):
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def campaign(command_for, folder, longest, check, kills, seed):
    """Kill a command again and again; each time it comes to its end, check that, and begin another one.

    Args:
        command_for: output folder → command.
        folder: for all outputs.
        longest: seconds that it takes undisturbed.
        check: says what is wrong with a finished output.
        kills: how many.
        seed: of times and moments.
    """
    rng, done, ends, kept, started = random.Random(seed), [], 0, {}, time.monotonic()
    while True:
        out = folder / f"out-{ends}"
        if len(done) == kills:
            undisturbed(command_for(out))
        elif killed := live(command_for(out), out, rng, longest):
            done.append(killed)
            now = finished_in(out)
            assert {name: now.get(name) for name in kept} == kept, "what was finished is gone, or was done again"
            kept = now
            continue
        check(out)
        ends, kept = ends + 1, {}
        if len(done) == kills:
            break
    print(f"\n{kills} kills, {ends} times to the end, {time.monotonic() - started:.0f} s: {'; '.join(done)}")


def finished_in(out):
    """Summaries of what is finished inside, with their times."""
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in out.glob("*/**/summary.json")}


def weights(folder):
    """Every published weight file below a folder, by its place."""
    files = [file for file in folder.rglob("*.safetensors") if file.parent.name == "model"]
    return {file.relative_to(folder): file.read_bytes() for file in files}


# --- campaigns -------------------------------------------------------------------------------------------------------


def unlearning(world):
    return lambda out: gru_process("unlearn", world / "recipe.yaml", "--output-dir", out)


@pytest.fixture(scope="module")
def whole(world):
    """The run as it is undisturbed, and its seconds."""
    return world / "undisturbed", undisturbed(unlearning(world)(world / "undisturbed"))[1]


def same_run(whole):
    """Weights, and the trajectory with the best model's place in it."""

    def check(out):
        assert weights(out) == weights(whole) != {}
        ours, theirs = (json.loads((folder / "summary.json").read_text()) for folder in (out, whole))
        assert trajectory(out) == trajectory(whole)
        assert [ours[key] for key in ("best", "steps")] == [theirs[key] for key in ("best", "steps")]
        assert not list(out.rglob("*.unfinished")) + list(out.rglob("*.part")) + list(out.glob("best"))

    return check


@pytest.mark.slow
def test_interrupted_and_killed_a_run_goes_on_to_the_same_bits(gru, short, tmp_path):
    """Ctrl-C in the middle, then kill -9 while a checkpoint is written, then to the end."""
    out, steps = tmp_path / "cut", ("--max-steps=100", "--save-steps=3", "--eval-strategy=steps", "--eval-steps=10")
    for how, moment, code in (
        (signal.SIGINT, exists("checkpoint-1?"), 130),
        (signal.SIGKILL, begun("checkpoint-[3-9]?", "trainer_state.json"), -signal.SIGKILL),
    ):
        process = subprocess.Popen(
            gru_process(*short(out, *steps)),
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - background jobs ignore it
        )
        wait_until(lambda process=process, now=moment: now(out) or process.poll() is not None)
        process.send_signal(how)
        _, err = process.communicate(timeout=120)
        assert process.returncode == code, err
        assert not (out / "summary.json").exists()
    code, said, err = gru(*short(out, *steps))
    assert code == 0, err
    assert re.search(r"Continuing the interrupted run in .*, from checkpoint-[2-9]\d", said)
    assert gru(*short(tmp_path / "undisturbed", *steps))[0] == 0
    assert weights(out) == weights(tmp_path / "undisturbed") != {}
    assert trajectory(out) == trajectory(tmp_path / "undisturbed")


def trajectory(out):
    return timeless(json.loads((out / "summary.json").read_text())["trajectory"])


def timeless(points):
    return [{key: value for key, value in point.items() if key != "seconds"} for point in points]


def test_a_run_that_had_forgotten_enough_when_it_was_killed_takes_no_further_step(gru, short, tmp_path):
    steps = ("--stop-at-forget-prob=0.01", "--learning-rate=1e-2", "--eval-strategy=steps", "--eval-steps=2",
             "--gradient-accumulation-steps=1")  # fmt: skip
    assert gru(*short(tmp_path / "out", *steps))[0] == 0
    before = weights(tmp_path / "out"), trajectory(tmp_path / "out")
    assert [point["step"] for point in before[1]] == [0, 2]
    (tmp_path / "out" / "summary.json").unlink()
    code, said, err = gru(*short(tmp_path / "out", *steps))
    assert (code, "from checkpoint-2" in said) == (0, True), err
    assert (weights(tmp_path / "out"), trajectory(tmp_path / "out")) == before


def wait_until(happened, seconds=120):
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


@pytest.mark.campaign
@pytest.mark.slow
def test_unlearn_killed_again_and_again(world, whole, tmp_path):
    folder, seconds = whole
    campaign(unlearning(world), tmp_path, seconds, same_run(folder), KILLS, seed=1)


@pytest.mark.campaign
@pytest.mark.slow
def test_compare_killed_again_and_again(world, tmp_path):
    shared = ["compare", world / "recipe.yaml", "--suite", "own", "--seeds", "1", "--learning-rates", "1e-4"]
    shared += ["--save-strategy", "steps", "--max-steps", "60"]

    def command(out):
        return gru_process(*shared, "--output-dir", out)

    _, seconds = undisturbed(command(tmp_path / "undisturbed"))
    expected = outcome(tmp_path / "undisturbed")
    assert len(expected) == 2

    def check(out):
        assert weights(out) == weights(tmp_path / "undisturbed") != {}
        assert outcome(out) == expected

    campaign(command, tmp_path, seconds, check, KILLS, seed=2)


def outcome(out):
    """What must not depend on interruptions: all but times and memory."""
    cells = json.loads((out / "summary.json").read_text())["cells"]
    for cell in cells:
        cell["trajectory"] = timeless(cell["trajectory"])
    return [{key: cell[key] for key in ("name", "status", "steps", "trajectory", "metrics", "rmf")} for cell in cells]


@pytest.mark.campaign
@pytest.mark.slow
def test_requests_killed_again_and_again(world, tmp_path):
    ledger = tmp_path / "ledger"
    settings = [
        "--retain",
        world / "retain.jsonl",
        "--model",
        world / "model",
        "--max-steps",
        "40",
        "--save-steps",
        "3",
    ]
    settings += ["--learning-rate", "5e-3", "--warmup-steps", "0", "--use-cpu", "--utility-floor", "0.01"]
    undisturbed(gru_process("requests", "init", ledger, *settings, "--forget-ceiling", "1"))
    for rows in ("[:2]", "[2:4]", "[4:6]"):
        undisturbed(gru_process("requests", "add", ledger, "--forget", f"{world / 'forget.jsonl'}{rows}"))
    shutil.copytree(ledger, tmp_path / "undisturbed")
    _, seconds = undisturbed(gru_process("requests", "run", tmp_path / "undisturbed"))
    expected = history(tmp_path / "undisturbed")
    assert [event for event, *_ in expected if event == "done"] == ["done"] * 3

    def command(out):
        if not out.exists():
            shutil.copytree(ledger, out)
        return gru_process("requests", "run", out)

    def check(out):
        assert history(out) == expected
        assert weights(out) == weights(tmp_path / "undisturbed") != {}
        said, _ = undisturbed(gru_process("requests", "verify", out))
        assert "The ledger holds" in said

    campaign(command, tmp_path, seconds, check, KILLS, seed=3)


def history(ledger):
    """Events with the hashes of the models before and after."""
    with Ledger.open(ledger) as opened:
        return [(entry.event, entry.request, entry.weights_before, entry.weights_after) for entry in opened.entries()]


# --- no room ---------------------------------------------------------------------------------------------------------


@contextmanager
def files_of_at_most(size):
    """A limit on the size of files, for this process; to write more is the error of a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


STAGES = {
    "checkpoint": ([], lambda weights: weights + 4000),  # the optimizer's file is about twice as long
    "model": (["--save-strategy=no"], lambda weights: weights - 4000),
}


@pytest.mark.parametrize("stage", STAGES)
def test_without_room_a_run_stops_with_4_and_goes_on_later(gru, world, short, tmp_path, stage):
    extra, limit = STAGES[stage]
    with files_of_at_most(limit((world / "model" / "model.safetensors").stat().st_size)):
        code, _, err = gru(*short(tmp_path / "cut", *extra))
    assert (code, err.count("\n")) == (StorageError.exit_code, 1), err
    assert f"no room left to write in {tmp_path / 'cut'} (" in err
    assert not weights(tmp_path / "cut")
    assert not (tmp_path / "cut" / "summary.json").exists()
    code, out, err = gru(*short(tmp_path / "cut", *extra))
    assert (code, "Continuing the interrupted run" in out) == (0, True), err
    assert gru(*short(tmp_path / "undisturbed"))[0] == 0
    assert weights(tmp_path / "cut") == weights(tmp_path / "undisturbed") != {}


def test_without_room_for_the_summary_a_run_is_not_finished(gru, short, tmp_path, monkeypatch):
    write = file_model.write_json

    def no_room(path, *values):
        if path.name == "summary.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, *values)

    with monkeypatch.context() as patch:
        patch.setattr(file_model, "write_json", no_room)
        assert gru(*short(tmp_path / "out"))[0] == StorageError.exit_code
    written = weights(tmp_path / "out")
    code, out, err = gru(*short(tmp_path / "out"))
    assert (code, "from checkpoint-4" in out) == (0, True), err
    assert weights(tmp_path / "out") == written != {}


def test_without_room_scores_are_not_kept_and_leave_nothing(world, tmp_path):
    table = ScoreTable([], {"a": "b" * 10_000})
    with files_of_at_most(1000), pytest.raises(OSError, match="too large"):
        keep_scores(tmp_path / "scores", "key", table)
    assert not list((tmp_path / "scores").iterdir())


def test_without_room_the_builtin_models_are_not_begun(gru, tmp_path, monkeypatch):
    monkeypatch.setenv("GRU_UNLEARN_CACHE", str(tmp_path / "cache"))
    with files_of_at_most(1000):
        code, _, err = gru("evaluate", "--model", "builtin:target", "--out", tmp_path / "out")
    assert (code, "cannot hold the built-in benchmark" in err) == (2, True), err
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 kB, and a function that makes it larger."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("may not mount a file system here")
    yield disk, lambda: subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)
    subprocess.run(["umount", disk], check=True)


@pytest.mark.campaign
@pytest.mark.slow
def test_on_a_full_disk_a_run_stops_with_4_and_goes_on_later(world, whole, small_disk):
    disk, enlarge = small_disk
    command = unlearning(world)(disk / "out")
    for _ in range(2):  # full, and still full
        done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
        assert done.returncode == StorageError.exit_code, done.stderr
        assert done.stderr.count("\n") == 1
        assert f"no room left to write in {disk / 'out'} (" in done.stderr
        assert not (disk / "out" / "summary.json").exists()
    enlarge()
    said, _ = undisturbed(command)
    assert "Continuing the interrupted run" in said
    same_run(whole[0])(disk / "out")
