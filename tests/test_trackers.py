"""Where ``report_to`` sends a run's numbers: TensorBoard, Weights & Biases and Trackio, each where it is installed."""

import json

import pytest

import tiny

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
    module = pytest.importorskip(tracker, reason=f"needs the package {tracker}, which nothing here installs")
    run = tiny.trainer(
        folder / "run", tiny.model(), report_to=[tracker], max_steps=2, run_name="two-steps", use_cpu=True
    )
    run.train()
    return module


def test_tensorboard_shows_the_runs_own_numbers(tmp_path, monkeypatch):
    run_with("tensorboard", tmp_path, monkeypatch)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415

    board = EventAccumulator(str(tmp_path / "board")).Reload()
    assert {f"train/{name}" for name in OURS} <= set(board.Tags()["scalars"])
    assert [event.step for event in board.Scalars("train/forget_loss")] == [1, 2]
    settings = "".join(part.decode() for part in board.Tensors("args/text_summary")[0].tensor_proto.string_val)
    assert json.loads(settings)["rectification"] == "gru"


def test_wandb_keeps_the_run_offline(tmp_path, monkeypatch):
    wandb = run_with("wandb", tmp_path, monkeypatch)
    seen = set(wandb.run.summary.keys())
    wandb.finish()
    assert {f"train/{name}" for name in OURS} <= seen
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


def test_trackio_keeps_the_run_in_a_file(tmp_path, monkeypatch):
    run_with("trackio", tmp_path, monkeypatch)
    files = [path for path in (tmp_path / "trackio").rglob("*") if path.is_file()]
    assert any(b"forget_loss" in path.read_bytes() for path in files)
