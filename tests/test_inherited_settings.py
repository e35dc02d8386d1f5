"""Every setting of ``TrainingArguments`` acts, or is refused in one line."""

import dataclasses
import json

import pytest
import torch
from transformers import TrainingArguments

import tiny
from gru_unlearn import UnlearningConfig, UnlearningTrainer
from gru_unlearn.errors import UserError
from gru_unlearn.training import inherited_settings as inherited
from gru_unlearn.training.inherited_settings import ADAPTED, INHERITED, REFUSED, REFUSED_VALUES, WORKS
from gru_unlearn.training.packages import require_packages

NAMES = [field.name for field in dataclasses.fields(TrainingArguments)]
OTHER = {
    "average_tokens_across_devices": False,
    "eval_do_concat_batches": False,
    "dataloader_in_order": False,
    "label_smoothing_factor": 0.1,
    "include_num_input_tokens_seen": "all",
    "eval_accumulation_steps": 2,
    "include_for_metrics": ["loss"],
    "label_names": ["labels"],
    "hub_model_id": "somebody/model",
    "hub_strategy": "end",
    "hub_revision": "branch",
    "metric_for_best_model": "forget_prob",
    "parallelism_config": object(),
    "length_column_name": "tokens",
    "deepspeed": {"zero_optimization": {"stage": 2}},
    "resume_from_checkpoint": "checkpoint-1",
    "local_rank": 0,
}
"""Of refused settings that are no switches, off by themselves: another value."""


def config(tmp_path, **settings):
    return UnlearningConfig(**{"output_dir": str(tmp_path), "use_cpu": True, "report_to": "none"} | settings)


def one_line_about(name, error):
    text = str(error.value)
    assert name in text
    assert "\n" not in text
    return text


def test_every_inherited_setting_is_judged_once():
    assert sorted(set(NAMES) - INHERITED.keys()) == []
    assert len(WORKS) + len(ADAPTED) + len(REFUSED) == len(INHERITED)
    assert all(standing.note for standing in INHERITED.values() if standing.verdict != "works")


@pytest.mark.parametrize("name", [name for name in NAMES if INHERITED[name].verdict == "refused"])
def test_what_would_not_act_is_refused_in_one_line(tmp_path, name):
    with pytest.raises(UserError) as error:
        config(tmp_path, **{name: OTHER.get(name, True)})
    one_line_about(name, error)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in REFUSED_VALUES.items() for value in values]
)
def test_so_are_single_values(tmp_path, name, value):
    with pytest.raises(UserError) as error:
        config(tmp_path, **{name: value})
    one_line_about(value, error)


def test_layerwise_lomo_and_schedule_free_optimizers_are_among_them():
    assert {
        "galore_adamw_layerwise",
        "apollo_adamw_layerwise",
        "lomo",
        "adalomo",
        "schedule_free_sgd",
    } <= REFUSED_VALUES["optim"].keys()


def test_a_setting_that_nobody_has_judged_is_refused_where_it_is_set(tmp_path, monkeypatch):
    monkeypatch.setattr(inherited, "INHERITED", {k: v for k, v in INHERITED.items() if k != "max_steps"})
    config(tmp_path)
    with pytest.raises(UserError, match="max_steps comes with a newer transformers"):
        config(tmp_path, max_steps=3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optim": "sgd", "adam_beta1": 0.8}, "adam_beta1 is not read by --optim sgd"),
        ({"optim_args": "momentum=0.9"}, "optim_args is not read by --optim adamw_torch_fused"),
        ({"optim": "sgd", "optim_args": "momentun=0.9"}, "--optim sgd reads name=value of dampening, momentum"),
        ({"optim": "sgd", "optim_args": "momentum"}, "--optim sgd reads name=value of dampening, momentum"),
        ({"optim_target_modules": "all-linear"}, "optim_target_modules is not read by --optim adamw_torch_fused"),
        ({"lr_scheduler_type": "constant", "lr_scheduler_kwargs": {"power": 2}}, "lr_scheduler_kwargs is not read"),
        ({"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"powr": 2}}, "powr"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "min_lr"),
        ({"do_eval": True}, "do_eval follows eval_strategy"),
        ({"accelerator_config": {"split_batches": True}}, "split_batches"),
        ({"accelerator_config": {"dispatch_batches": True}}, "dispatch_batches"),
        ({"accelerator_config": {"even_batches": False}}, "even_batches"),
    ],
)
def test_settings_that_another_one_makes_idle_are_refused(tmp_path, settings, message):
    with pytest.raises(UserError) as error:
        config(tmp_path, **settings)
    one_line_about(message, error)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"eval_strategy": "steps", "eval_steps": 2, "do_eval": True},
        {"optim": "sgd", "optim_args": "momentum=0.9, nesterov=true"},
        {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 1e-7}},
        {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": {"num_decay_steps": 2}},
        {"accelerator_config": {"non_blocking": True}},
        {"debug": "underflow_overflow"},
    ],
)
def test_a_copy_of_a_configuration_is_one(tmp_path, settings):
    made = config(tmp_path, **settings)
    again = dataclasses.replace(made)
    assert again.to_dict() == made.to_dict()


def test_the_command_refuses_before_it_looks_for_a_model(gru):
    flags = ["--model", "owner/none", "--forget", "owner/none", "--label-smoothing-factor", "0.2"]
    code, _, err = gru("unlearn", *flags)
    assert (code, err.count("\n")) == (2, 1)
    assert "label_smoothing_factor has no place here" in err


# --- those that work, act --------------------------------------------------------------------------------------------

FAST = {
    "max_steps": 3,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 1,
    "learning_rate": 1e-2,
    "warmup_steps": 0,
    "max_length": 64,
    "eval_on_start": False,
    "save_strategy": "no",
    "disable_tqdm": True,
}


def trained(tmp_path, **settings):
    trainer = UnlearningTrainer(
        tiny.model(),
        config(tmp_path, **FAST | settings),
        forget_dataset=tiny.rows(5),
        retain_dataset=tiny.rows(9, start=6),
        processing_class=tiny.tokenizer(),
    )
    trainer.train()
    return trainer


def weights(trainer):
    return torch.cat([parameter.detach().flatten().float() for parameter in trainer.model.parameters()])


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return weights(trained(tmp_path_factory.mktemp("plain")))


@pytest.mark.parametrize(
    "settings",
    [
        {"learning_rate": 2e-2},
        {"weight_decay": 0.5},
        {"adam_beta1": 0.5},
        {"adam_beta2": 0.5},
        {"adam_epsilon": 1e-1},
        {"max_grad_norm": 1e-8},
        {"lr_scheduler_type": "constant"},
        {"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"num_cycles": 3}},
        {"warmup_steps": 2},
        {"optim": "sgd"},
        {"optim": "adafactor"},
        {"max_steps": 2},
        {"max_steps": -1, "num_train_epochs": 2},
        {"seed": 7},
        {"data_seed": 7},
        {"per_device_train_batch_size": 3},
        {"gradient_accumulation_steps": 2},
        {"train_sampling_strategy": "group_by_length"},
        {"dataloader_drop_last": True},
        {"neftune_noise_alpha": 5.0},
        {"bf16": True},
        {"fsdp_config": None, "optim": "rmsprop", "optim_args": "alpha=0.5"},
    ],
    ids=str,
)
def test_settings_that_change_the_weights(tmp_path, plain, settings):
    assert not torch.equal(weights(trained(tmp_path, **settings)), plain)


def test_arguments_of_an_optimizer_act(tmp_path):
    runs = [weights(trained(tmp_path, optim="sgd", **more)) for more in ({}, {"optim_args": "momentum=0.9"})]
    assert not torch.equal(*runs)


@pytest.mark.parametrize(
    "settings",
    [
        {"activation_checkpointing": True},
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}},
        {"dataloader_num_workers": 1, "dataloader_prefetch_factor": 2, "dataloader_persistent_workers": True},
        {"torch_empty_cache_steps": 1},
        {"logging_strategy": "no"},
        {"log_level": "error"},
        {"debug": "underflow_overflow"},
        {"full_determinism": True},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore")
def test_settings_that_change_only_how_it_is_done(tmp_path, plain, settings):
    try:
        torch.testing.assert_close(weights(trained(tmp_path, **settings)), plain, rtol=1e-4, atol=1e-5)
    finally:
        torch.use_deterministic_algorithms(False)


def test_the_cache_of_the_device_is_emptied_every_so_many_steps(tmp_path, monkeypatch):
    emptied = []
    monkeypatch.setattr("gru_unlearn.training.trainer.clear_device_cache", lambda: emptied.append(1))
    trained(tmp_path, torch_empty_cache_steps=2)
    assert len(emptied) == 4  # after both passes of the steps 0 and 2


def test_checkpoints_come_as_set_and_as_many_as_are_kept(tmp_path):
    trained(tmp_path, save_strategy="steps", save_steps=1, save_total_limit=2)
    assert sorted(folder.name for folder in tmp_path.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-3"]


def test_evaluations_and_logs_come_as_set(tmp_path):
    settings = {"eval_strategy": "steps", "eval_steps": 1, "eval_delay": 2, "eval_on_start": True}
    log = trained(tmp_path, **settings, logging_steps=3, logging_first_step=True).state.log_history
    assert [row["step"] for row in log if "eval_forget_prob" in row] == [0, 2, 3]
    assert [row["step"] for row in log if "loss" in row] == [1, 3]


def test_memory_of_the_training_is_measured_where_that_is_asked(tmp_path):
    log = trained(tmp_path, skip_memory_metrics=False).state.log_history
    assert any("train_mem_cpu_peaked_delta" in row for row in log)


def test_the_saved_model_caches_as_it_did(tmp_path):
    trainer = trained(tmp_path)
    trainer.save_model(str(tmp_path / "saved"))
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert saved.get("use_cache", True) is tiny.model().config.use_cache


# --- what is not installed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "package"),
    [
        ({"optim": "galore_adamw", "optim_target_modules": "all-linear"}, "galore_torch"),
        ({"optim": "apollo_adamw", "optim_target_modules": "all-linear"}, "apollo_torch"),
        ({"optim": "grokadamw"}, "pip install grokadamw"),
        ({"optim": "stable_adamw"}, "pip install torch-optimi"),
        ({"optim": "adamw_torch_4bit"}, "torchao"),
        ({"optim": "adamw_anyprecision"}, "torchdistx"),
        ({"optim": "sgd", "optim_args": "momentum=much"}, "much"),
        ({"report_to": "wandb"}, "wandb"),
        ({"report_to": "wanndb"}, "wanndb"),
    ],
    ids=str,
)
def test_a_missing_package_is_named_before_the_work(tmp_path, monkeypatch, settings, package):
    for module in ("galore_torch", "apollo_torch", "grokadamw", "torch_optimi", "torchao"):
        monkeypatch.setattr(f"transformers.trainer_optimizer.is_{module}_available", lambda *_: False)
    monkeypatch.setattr("transformers.integrations.integration_utils.is_wandb_available", lambda: False)
    with pytest.raises(UserError) as error:
        require_packages(config(tmp_path, **settings))
    one_line_about(package, error)
