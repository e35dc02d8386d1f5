"""Programs that run beside this one, and plain fine-tuning."""

import signal
import sys
import time

import pytest
import torch

import tiny
from gru_unlearn.common.supervision import Child, none_left_behind
from gru_unlearn.data import Encoder, to_record
from gru_unlearn.errors import NonFiniteError
from gru_unlearn.training.fine_tuning import FineTuning


def python(log, program, **options):
    return Child([sys.executable, "-u", "-c", program], log, **options)


def test_what_it_prints_is_in_its_log_and_the_last_line_is_the_reason(tmp_path):
    program = "import os, sys; print(os.environ['WORD']); print('why', file=sys.stderr); sys.exit(3)"
    child = python(tmp_path / "log", program, environment={"WORD": "hello"})
    child.wait()
    assert (child.exit_code, child.last_line, child.reason) == (3, "why", "why")
    assert (tmp_path / "log").read_text() == "hello\nwhy\n"
    silent = python(tmp_path / "log", "raise SystemExit(4)")
    silent.wait()
    assert (silent.last_line, silent.reason) == ("", "exit code 4")


def test_a_message_comes_first_and_a_closed_input_is_the_wish_to_stop(tmp_path):
    program = "print(input(), flush=True); import sys; sys.stdin.read(); print('stopped')"
    child = python(tmp_path / "log", program, message="job\n")
    while child.last_line != "job":
        time.sleep(0.01)
    assert child.exit_code is None
    child.ask_to_stop()
    child.wait()
    assert (child.exit_code, child.last_line) == (0, "stopped")


def test_none_is_left_behind_and_a_signal_is_told(tmp_path):
    children = []
    with none_left_behind(children):
        children.append(python(tmp_path / "a", "import time; time.sleep(100)"))
        children.append(python(tmp_path / "b", "import os; print(os.getpgid(0) == os.getpid())"))
        children[1].wait()
    assert [child.exit_code for child in children] == [-signal.SIGKILL, 0]
    assert children[0].reason == "ended by signal 9 (out of memory?)"
    assert children[1].last_line == "True", "Ctrl-C in this terminal does not reach it"


def test_fine_tuning_learns_and_stops_before_nan():
    examples = Encoder(tiny.tokenizer()).encode_all([to_record(row, "") for row in tiny.rows(4)], "rows")
    model = tiny.model()
    tuning = FineTuning(model, 0, learning_rate=1e-2, rate_at=lambda step: float(step < 20))
    losses = [tuning.step(examples) for _ in range(22)]
    assert losses[19] < 0.5 * losses[0]
    assert losses[20] == losses[21], "the rate is 0 by then"
    assert not model.training
    assert tuning.steps == 22
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    with pytest.raises(NonFiniteError, match="the loss is nan at step 23"):
        tuning.step(examples)
