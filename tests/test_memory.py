"""Memory along a run: what was freed goes back to the system."""

import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import tiny
from gru_unlearn import UnlearningConfig, UnlearningTrainer
from gru_unlearn.common.memory import Heap, give_back_freed_memory, heap

BENCHMARK = Path(__file__).resolve().parents[1] / "benchmarks" / "memory_over_a_run.py"
needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back when asked")


def resident():
    """Megabytes that this process holds."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1000


def make_holes():
    """MB that a process holds before and after it gives back what lies between blocks in use."""
    blocks, pins = [], []
    for _ in range(1600):
        blocks.append(torch.ones(16 * 1024))  # 64 KiB
        pins.append(torch.ones(8))
    del blocks
    before = resident()
    give_back_freed_memory()
    assert all(pin.sum() == 8 for pin in pins)
    return before, resident()


@needs_glibc
def test_holes_between_what_is_in_use_go_back():
    code = "from test_memory import make_holes; print(*make_holes())"  # a process without holes of its own
    found = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, check=True)
    before, after = map(float, found.stdout.split())
    assert before - after > 60


@needs_glibc
def test_the_heap_tells_what_is_in_use():
    before = heap().in_use
    block = torch.ones(1024 * 1024)
    assert heap().in_use - before >= block.nbytes


def test_elsewhere_nothing_happens(monkeypatch):
    monkeypatch.setattr("gru_unlearn.common.memory._library", lambda: None)
    give_back_freed_memory()
    give_back_freed_memory(least=1)
    assert heap() == (0, 0)


@needs_glibc
def test_a_little_is_not_worth_the_time(monkeypatch):
    asked = []
    monkeypatch.setattr("gru_unlearn.common.memory.heap", lambda: Heap(in_use=5, freed=1000))
    monkeypatch.setattr("gru_unlearn.common.memory._library", lambda: SimpleNamespace(malloc_trim=asked.append))
    for least in (1001, 1000, 0):
        give_back_freed_memory(least)
    assert asked == [0, 0]


def test_a_run_gives_back_now_and_then_and_after_evaluations(tmp_path, monkeypatch):
    given = []
    for module in ("steps", "pair_trainer"):
        monkeypatch.setattr(f"gru_unlearn.training.{module}.give_back_freed_memory", given.append)
    config = UnlearningConfig(
        output_dir=str(tmp_path), max_steps=9, per_device_train_batch_size=2, gradient_accumulation_steps=1,
        save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
    )  # fmt: skip
    trainer = UnlearningTrainer(
        tiny.model(), config, forget_dataset=tiny.rows(4), retain_dataset=tiny.rows(4, start=6),
        processing_class=tiny.tokenizer(),
    )  # fmt: skip
    trainer.train()
    assert len(given) == 3  # before the first step, and after four and eight


@needs_glibc
@pytest.mark.slow
def test_memory_is_flat_after_the_first_epoch():
    sizes = ["--hidden", "128", "--layers", "8", "--vocabulary", "4096", "--steps", "32"]
    done = subprocess.run([sys.executable, BENCHMARK, *sizes], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
