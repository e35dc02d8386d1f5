"""Several processes (DDP, FSDP2) train as one does: gloo on CPU, the same global batches, 20 steps."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

import distributed_worker
import tiny

HERE = Path(__file__).parent
BATCH = 6
SCENARIOS = {
    "ddp": {"kind": "ddp"},
    "ddp_after": {"kind": "ddp", "objective": "ga", "retain_weight": 0.5, "retain_placement": "after"},
    "ddp_plain": {"kind": "ddp", "objective": "graddiff", "rectification": "none", "learning_rate": 5e-4},
    "ddp_primal_dual": {"kind": "ddp", "objective": "ga", "rectification": "pdu", "learning_rate": 5e-4},
    "ddp_stale": {"kind": "ddp", "rectification": "gru/element/update", "retain_every": 3},
    "ddp_metric": {
        "kind": "ddp",
        "rectification": "gru/element/update/metric",
        "retain_loss": "nll",
        "retain_weight": 1.0,
    },
    "ddp_stale_primal_dual": {"kind": "ddp", "rectification": "pdu", "retain_every": 2, "learning_rate": 5e-4},
    "fsdp2": {"kind": "fsdp2"},
    "fsdp2_sago_stale": {"kind": "fsdp2", "rectification": "sago", "retain_every": 2},
    "fsdp2_hamu": {"kind": "fsdp2", "rectification": "hamu"},
    "fsdp2_lora": {"kind": "fsdp2", "lora": True, "learning_rate": 2e-4},
    "fsdp2_lora_kl": {"kind": "fsdp2", "lora": True, "retain_loss": "kl", "retain_weight": 1.0, "learning_rate": 2e-4},
    "fsdp2_element_update": {"kind": "fsdp2", "rectification": "gru/element/update"},
    "fsdp2_metric": {
        "kind": "fsdp2",
        "rectification": "free/update/metric/temper",
        "retain_loss": "nll",
        "retain_weight": 1.0,
    },
    "fsdp2_layer_memory": {"kind": "fsdp2", "rectification": "gru/layer/memory=3"},
}
AUTO = {"kind": "ddp", "rectification": "recommended", "learning_rate": "auto"}
RESUMED = {"kind": "fsdp2", "save_strategy": "steps", "save_steps": 10}


def options(scenario, processes):
    return {**scenario, "per_device_train_batch_size": BATCH // processes, "gradient_accumulation_steps": 2}


def launch(processes, scenarios, folder):
    """Run scenarios in several processes, all in one start."""
    arguments = json.dumps({name: options(scenario, processes) for name, scenario in scenarios.items()})
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command += [str(HERE / "distributed_worker.py"), arguments, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Scenario → the weights and the log that one process gives."""
    folder = tmp_path_factory.mktemp("alone")
    found = {}
    for name, scenario in SCENARIOS.items():
        trainer = distributed_worker.run(folder=folder / name, **options({**scenario, "kind": "ddp"}, 1))
        found[name] = distributed_worker.weights(trainer), trainer.state.log_history
    return found


@pytest.fixture(scope="module", params=[2, tiny.seldom(3)])
def together(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(f"together{request.param}")
    launch(request.param, SCENARIOS, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_many_processes_train_as_one(alone, together, name):
    expected, log = alone[name]
    actual = load_file(together / name / "weights.safetensors")
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(actual[key], value, rtol=0, atol=1e-5)
    seen = json.loads((together / name / "log.json").read_text())
    for row, other in zip(log, seen, strict=True):
        shared = {key for key in row if key.startswith(("forget_", "retain_", "cosine", "removed", "conflict"))}
        assert {key: row[key] for key in shared} == pytest.approx(
            {key: other[key] for key in shared}, rel=1e-3, abs=1e-5
        )


@pytest.mark.slow
def test_a_sharded_run_is_saved_as_one_model(alone, together):
    model = LlamaForCausalLM.from_pretrained(together / "fsdp2" / "model")
    for name, value in alone["fsdp2"][0].items():
        torch.testing.assert_close(model.get_parameter(name).detach(), value, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_resumes_on_another_number_of_processes(alone, tmp_path):
    """Ten steps on two processes, the retain direction included, then ten on three."""
    launch(2, {"run": RESUMED}, tmp_path)
    launch(3, {"run": {**RESUMED, "resume": str(tmp_path / "run" / "checkpoint-10")}}, tmp_path)
    actual = load_file(tmp_path / "run" / "weights.safetensors")
    for name, value in alone["fsdp2"][0].items():
        torch.testing.assert_close(actual[name], value, rtol=0, atol=1e-5)


@pytest.mark.campaign
def test_two_processes_find_the_learning_rate_that_one_finds_and_move_it_alike(tmp_path):
    launch(2, {"auto": AUTO}, tmp_path)
    trainer = distributed_worker.run(folder=tmp_path / "alone", **options(AUTO, 1))
    alone, together = trainer.state.log_history, json.loads((tmp_path / "auto" / "log.json").read_text())
    found, expected = ([row for row in log if "learning_rate_set" in row] for log in (together, alone))
    assert expected[0]["step"] == 0
    assert found == expected


@pytest.mark.campaign
def test_sharded_weights_are_refused_a_learning_rate_of_their_own(tmp_path):
    with pytest.raises(AssertionError, match=r"learning rate auto does not work with sharded weights \(FSDP2\)"):
        launch(2, {"auto": AUTO | {"kind": "fsdp2"}}, tmp_path)


@pytest.mark.slow
def test_the_command_in_two_processes_gives_what_it_gives_in_one(tmp_path):
    """Launched by torchrun: one of the processes speaks and writes, bad input is told once."""
    tiny.save(tmp_path / "model")
    for name, rows in (("forget", distributed_worker.FORGET), ("retain", distributed_worker.RETAIN)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]

    def unlearn(processes, **settings):
        flags = {"model": tmp_path / "model", "forget": tmp_path / "forget.jsonl", "retain": tmp_path / "retain.jsonl"}
        flags |= {"output-dir": tmp_path / f"out{processes}", "max-steps": 6, "learning-rate": 2e-3, "use-cpu": "true"}
        flags |= {"per-device-train-batch-size": 4 // processes, "gradient-accumulation-steps": 2, **settings}
        flags |= {"eval-strategy": "steps", "eval-steps": 2, "keep-best": "min forget_prob if retain_prob >= 0"}
        words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        start = [*launcher, str(processes)] if processes > 1 else []
        command = [sys.executable, *start, "-m", "gru_unlearn", "unlearn", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    for processes in (1, 2):
        done = unlearn(processes)
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("Results:") == 1
    one, two = (json.loads((tmp_path / f"out{n}" / "summary.json").read_text()) for n in (1, 2))
    ours, theirs = ({k: v for k, v in run["trajectory"][-1].items() if k != "seconds"} for run in (two, one))
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert one["best"]["step"] == two["best"]["step"]
    assert one["verdict"] == two["verdict"]
    assert "answers not counted" not in two["verdict"]["remarks"]
    one, two = (json.loads((tmp_path / f"out{n}" / "examples.json").read_text()) for n in (1, 2))
    for name, part in one["sets"].items():
        for ours, theirs in zip(two["sets"][name]["rows"], part["rows"], strict=True):
            for moment in ("before", "after"):
                assert ours.pop(moment)["says"] == theirs.pop(moment)["says"]
            assert ours == theirs
    refused = unlearn(2)
    assert refused.returncode != 0
    assert refused.stderr.count("holds this run, finished") == 1
    assert "Traceback" not in refused.stderr.split("holds this run, finished")[0]


@pytest.mark.campaign
def test_many_processes_stop_together_and_keep_one_model(tmp_path):
    """A run on its own finds one footing for all; and what breaks the rest is stopped at the same step as in one."""
    tiny.save(tmp_path / "model")
    for name, rows in (("forget", distributed_worker.FORGET), ("retain", distributed_worker.RETAIN)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def summary_of(processes, name, *more):
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        places = [f"--{place}={tmp_path / place}" for place in ("model", "forget.jsonl", "retain.jsonl")]
        words = [word.replace(".jsonl=", "=") for word in places]
        words += ["--use-cpu", "--report-examples=0", f"--output-dir={tmp_path / f'{name}{processes}'}", *more]
        start = launcher if processes > 1 else []
        command = [sys.executable, *start, "-m", "gru_unlearn", "unlearn", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads((tmp_path / f"{name}{processes}" / "summary.json").read_text())

    harm = ["--learning-rate=5e-2", "--objective=ga", "--rectification=none", "--max-steps=30", "--warmup-steps=0"]
    harm += ["--stop-below-kept=0.95", "--eval-strategy=steps", "--eval-steps=2", "--gradient-accumulation-steps=1"]
    one, two = (summary_of(n, "harm", *harm, f"--per-device-train-batch-size={8 // n}") for n in (1, 2))
    assert one["results"]["stopped"]["why"] == "retention"
    assert (one["results"]["stopped"]["step"], one["steps"]) == (two["results"]["stopped"]["step"], two["steps"])

    one, two = (summary_of(n, "own", "--learning-rate=auto", "--max-steps=3") for n in (1, 2))
    assert one["settings"]["per_device_train_batch_size"] == 2 * two["settings"]["per_device_train_batch_size"] == 12
    assert one["results"]["stopped"] == two["results"]["stopped"]
