"""What only a GPU shows. Run with ``pytest -m gpu tests/test_gpu.py``."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

import tiny
from gru_unlearn.training import last_whole_checkpoint

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]

FORGET, RETAIN = tiny.rows(8), tiny.rows(16, start=8)


def trainer(folder, model, **options):
    return tiny.trainer(folder, model, **({"learning_rate": 1e-4, "max_steps": 6} | options))


class StopAfter(TrainerCallback):
    """Ends a run early, with the schedule of the whole one."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.step


def test_bfloat16_is_computed_with_by_default(tmp_path):
    able = torch.cuda.is_bf16_supported(including_emulation=False)
    assert trainer(tmp_path, tiny.model()).accelerator.mixed_precision == ("bf16" if able else "no")
    assert trainer(tmp_path, tiny.model(), bf16=False).args.bf16 is False


def test_bfloat16_checkpoints_forget_as_float32_ones_do(gru, tmp_path):
    for name, rows in (("forget", FORGET), ("retain", RETAIN)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fell, saved = {}, {}
    for kind in (torch.float32, torch.bfloat16):
        folder = tiny.save(tmp_path / str(kind))
        tiny.model().bfloat16().to(kind).save_pretrained(folder)
        out = tmp_path / f"run-{kind}"
        code, printed, err = gru(
            *("unlearn", "--model", folder, "--forget", tmp_path / "forget.jsonl"),
            *("--retain", tmp_path / "retain.jsonl", "--max-steps", 20, "--warmup-steps", 0, "--output-dir", out),
            *("--learning-rate", "1e-4", "--report-examples", 0, "--save-strategy", "no"),
        )
        assert code == 0, err
        assert "computed with in bfloat16" in printed
        results = json.loads((out / "summary.json").read_text())
        fell[kind] = results["trajectory"][0]["forget_prob"] - results["trajectory"][-1]["forget_prob"]
        saved[kind] = load_file(out / "model" / "model.safetensors")
    assert fell[torch.bfloat16] == pytest.approx(fell[torch.float32], rel=0.1)  # a tiny model: few weights to round
    for name, value in saved[torch.float32].items():
        assert value.dtype == torch.float32
        assert saved[torch.bfloat16][name].dtype == torch.bfloat16, (
            "what is served in the checkpoint's type is what was measured"
        )


@pytest.mark.parametrize("rectification", ["gru", "gru/element/update"])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_runs_resume_where_they_were(tmp_path, kind, rectification):
    options = {"save_strategy": "steps", "save_steps": 1, "rectification": rectification}
    whole = trainer(tmp_path / "whole", tiny.model().to(kind), **options)
    whole.train()
    cut = trainer(tmp_path / "cut", tiny.model().to(kind), **options)
    cut.add_callback(StopAfter(3))
    cut.train()
    resumed = trainer(tmp_path / "cut", tiny.model(seed=1).to(kind), **options)
    resumed.train(resume_from_checkpoint=str(last_whole_checkpoint(tmp_path / "cut")))
    difference = (tiny.weights(whole.model) - tiny.weights(resumed.model)).norm()
    start = tiny.weights(tiny.model().to(kind)).to(difference.device)
    assert difference <= 0.01 * (tiny.weights(whole.model) - start).norm()


def test_bfloat16_weights_move_as_float32_ones(tmp_path):
    moved = {}
    for kind in (torch.float32, torch.bfloat16):
        model = tiny.model().bfloat16().to(kind)
        start = tiny.weights(model)
        run = trainer(tmp_path / str(kind), model, objective="ga", learning_rate=1e-5, max_steps=50)
        run.train()
        with run._pairs.joined():
            moved[kind] = (tiny.weights(model).cpu() - start).norm()
    assert moved[torch.bfloat16] == pytest.approx(moved[torch.float32], rel=0.05)
