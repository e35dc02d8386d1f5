"""A run with another project's settings is that project's run: docs/how-to/from-openunlearning.md."""

import os
import runpy
from pathlib import Path

import pytest
import torch

import tiny
from gru_unlearn import UnlearningConfig, UnlearningTrainer
from gru_unlearn.objectives import OBJECTIVES

BENCHMARK = Path(__file__).resolve().parents[1] / "benchmarks" / "same_run.py"


def trained(folder, own=None, **options):
    defaults = {"objective": "simnpo", "rectification": "none", "learning_rate": 5e-3, "max_steps": 4}
    defaults |= {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1, "warmup_steps": 0}
    quiet = {"eval_on_start": False, "save_strategy": "no", "disable_tqdm": True, "use_cpu": True}
    run = UnlearningTrainer(
        tiny.model(),
        UnlearningConfig(output_dir=str(folder), **(defaults | quiet | options)),
        forget_dataset=tiny.rows(8),
        retain_dataset=tiny.rows(16, start=8),
        processing_class=tiny.tokenizer(),
        objective=own,
    )
    run.train()
    return tiny.weights(run.model)


def eighth_of_simnpo(logps, mask):
    return OBJECTIVES["simnpo"](logps, mask) / 8


@pytest.mark.parametrize("bound", [0.5, 2.8, 50.0], ids=["always clipped", "sometimes", "never"])
def test_a_forget_weight_is_a_retain_weight_a_bound_and_an_epsilon(tmp_path, bound):
    """γ = 1/8 and α = 1 with the bound m on the gradient are λ = 8 with 8 m, and AdamW's ε times 8."""
    theirs = trained(tmp_path / "a", eighth_of_simnpo, retain_weight=1.0, max_grad_norm=bound, adam_epsilon=1e-6)
    ours = trained(tmp_path / "b", retain_weight=8.0, max_grad_norm=8 * bound, adam_epsilon=8e-6)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)


def test_the_retain_weight_alone_is_not_the_same_where_a_gradient_is_below_the_bound(tmp_path):
    theirs = trained(tmp_path / "a", eighth_of_simnpo, retain_weight=1.0, max_grad_norm=5.0, max_steps=12)
    ours = trained(tmp_path / "b", retain_weight=8.0, max_grad_norm=5.0, max_steps=12)
    assert (ours - theirs).norm() > 0.02 * (theirs - tiny.weights(tiny.model())).norm()


@pytest.mark.campaign
def test_its_own_code_gives_the_same_losses_answers_and_weights(shared, tmp_path):
    """OPEN_UNLEARNING names a checkout of that project, OPEN_UNLEARNING_PYTHON an interpreter with its libraries."""
    checkout, python = (os.environ.get(name) for name in ("OPEN_UNLEARNING", "OPEN_UNLEARNING_PYTHON"))
    if not checkout or not python:
        pytest.skip("needs a checkout of OpenUnlearning and a Python with its libraries: see this test's docstring")
    rows = shared / "reference" / "tofu-tiny"
    words = ["--checkout", checkout, "--python", python, "--model", rows / "models" / "target", "--out", tmp_path]
    words += ["--forget", f"{shared / 'data' / 'tofu'}:forget01", "--retain", f"{rows / 'rows'}:retain_seen[:160]"]
    words += ["--methods", "npo,simnpo", "--epochs", "1", "--warmup", "2"]
    for one in runpy.run_path(str(BENCHMARK))["main"](list(map(str, words))):
        assert one.loss_difference < 1e-4, one
        assert one.answer_difference < 1e-4, one
        assert one.weight_difference < 1e-3, one
