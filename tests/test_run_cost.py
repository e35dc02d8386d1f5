"""What a run took along its way: rows and seconds beside each evaluation, without what is around the steps."""

import json
import time

import pytest
from transformers import TrainerCallback

import tiny
from gru_unlearn.results.model_metrics import Point
from gru_unlearn.runs.run_results import points_along
from gru_unlearn.training.run_cost import RunCost

EVERY_TWO = {"eval_strategy": "steps", "eval_steps": 2, "max_steps": 6, "use_cpu": True}


def points(run):
    return points_along(run.state.log_history)


@pytest.mark.parametrize(
    ("options", "rows_of_a_step"),
    [
        ({"objective": "npo", "rectification": "none"}, 4),
        ({"objective": "npo", "rectification": "gru"}, 8),
        ({"objective": "npo", "rectification": "recommended", "forget_candidates": 1}, 20),
        ({"objective": "npo", "rectification": "recommended"}, 23),  # eight are read, for a third each
        ({"objective": "npo", "rectification": "none", "retain_weight": 20.0, "retain_batch_size": 8}, 12),
        ({"objective": "npo", "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}, 8),
        ({"objective": "npo", "retain_loss": "kl"}, 12),  # retain rows pass through the reference model, too
        ({"objective": "dpo", "rectification": "none"}, 8),  # forget rows with their alternatives
    ],
)
def test_every_evaluation_says_how_many_rows_passed(tmp_path, options, rows_of_a_step):
    run = tiny.trainer(tmp_path, tiny.model(), **EVERY_TWO, **options)
    run.train()
    assert [(point.step, point.rows) for point in points(run)] == [(s, s * rows_of_a_step) for s in (0, 2, 4, 6)]


class Sleeper(TrainerCallback):
    """Wastes a tenth of a second in every evaluation, save and step."""

    def __init__(self, *moments):
        for moment in moments:
            setattr(self, moment, self.sleep)

    def sleep(self, args, state, control, **_):
        time.sleep(0.2)


def seconds(tmp_path, *moments):
    run = tiny.trainer(tmp_path, tiny.model(), save_strategy="steps", save_steps=2, **EVERY_TWO)
    run.add_callback(Sleeper(*moments))
    run.train()
    found = [point.seconds for point in points(run)]
    assert found[0] == 0
    assert found == sorted(found)
    return found[-1]


def test_seconds_are_those_of_steps_alone(tmp_path):
    around = seconds(tmp_path / "a", "on_evaluate", "on_save", "on_train_begin", "on_epoch_begin")
    inside = seconds(tmp_path / "b", "on_step_begin")
    assert around < 1
    assert 1.2 < inside < around + 2


class KillAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_begin(self, args, state, control, **_):
        if state.global_step == self.step:
            raise KeyboardInterrupt


def test_a_resumed_run_counts_all_of_its_steps(tmp_path):
    """Killed two steps after its last checkpoint, at which no evaluation stands: what was lost does not count."""
    options = {**EVERY_TWO, "eval_steps": 4, "max_steps": 12, "save_strategy": "steps", "save_steps": 3}
    cut = tiny.trainer(tmp_path, tiny.model(), **options)
    cut.add_callback(KillAt(8))
    cut.add_callback(Sleeper("on_step_begin"))
    with pytest.raises(KeyboardInterrupt):
        cut.train()
    resumed = tiny.trainer(tmp_path, tiny.model(), **options)
    resumed.train(resume_from_checkpoint=True)
    found = points(resumed)
    assert [(point.step, point.rows) for point in found] == [(0, 0), (4, 32), (8, 64), (12, 96)]
    assert found[1].seconds == points(cut)[1].seconds > 0.8
    assert found[2].seconds > found[1].seconds + 0.4, "steps 5 and 6 slept before the cut"
    assert found[3].seconds < 6 * 0.2 + 3


def test_a_run_whose_beginning_was_not_counted_says_nothing(tmp_path):
    options = {**EVERY_TWO, "save_strategy": "steps", "save_steps": 2}
    tiny.trainer(tmp_path, tiny.model(), **options).train()
    state = tmp_path / "checkpoint-6" / "trainer_state.json"
    content = json.loads(state.read_text())
    for row in content["log_history"]:
        row.pop("rows", None), row.pop("seconds", None)
    state.write_text(json.dumps(content))
    resumed = tiny.trainer(tmp_path, tiny.model(), **options | {"max_steps": 8})
    resumed.train(resume_from_checkpoint=True)
    assert [(point.step, point.rows, point.seconds) for point in points(resumed)] == [
        (step, None, None) for step in (0, 2, 4, 6, 8)
    ]
    assert points(resumed)[-1].to_json().keys().isdisjoint({"rows", "seconds"})


def test_rows_and_seconds_are_places_and_no_metrics():
    point = Point(step=5, rows=40, seconds=1.5, forget_prob=0.1)
    assert point.measured() == {"forget_prob": 0.1}


def test_a_clock_that_is_not_running_does_not_run():
    cost = RunCost()
    cost.end_step()
    assert cost.noted == {"rows": 0, "seconds": 0.0}
