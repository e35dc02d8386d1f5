"""Every setting that comes from ``transformers.TrainingArguments``, and what it does here.

This package's trainer has steps, evaluations and a best model of its own. A setting that acts on what they replace
would be taken without a word and change nothing, so it is refused. So is one of a newer transformers that nobody has
judged.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from transformers import TrainingArguments, get_scheduler
from transformers.training_args import OptimizerNames

from gru_unlearn.errors import UserError, first_line

Verdict = Literal["works", "adapted", "refused"]


class Standing(NamedTuple):
    """What a setting does here, and what there is to know about it."""

    verdict: Verdict
    note: str


NO_DEEPSPEED = (
    "DeepSpeed steps inside backward, which leaves no place to rectify the gradient: "
    "use FSDP2 through accelerate (fsdp_version: 2) to train on several devices"
)

_BEST = "the best model is chosen by a rule over all that is measured: use keep_best"
_PUBLISHING = "a run uploads nothing: gru export --push does, once the result was looked at"
_OWN_EVALUATION = "evaluations of a run are this package's own, which has no use for it: leave it away"
_SCRIPT = "it is for training scripts, and nothing here reads it: leave it away"

WORKS = """
    output_dir max_steps learning_rate lr_scheduler_kwargs optim_args optim_target_modules weight_decay
    adam_beta1 adam_beta2 adam_epsilon bf16 tf32
    activation_checkpointing activation_checkpointing_kwargs gradient_checkpointing gradient_checkpointing_kwargs
    torch_compile torch_compile_backend torch_compile_mode neftune_noise_alpha
    logging_strategy logging_steps logging_first_step log_on_each_node logging_nan_inf_filter log_level
    log_level_replica report_to run_name project trackio_space_id trackio_bucket_id trackio_static_space_id
    eval_strategy eval_steps eval_delay per_device_eval_batch_size eval_on_start
    save_steps save_on_each_node save_total_limit restore_callback_states_from_checkpoint
    full_determinism seed data_seed use_cpu
    dataloader_num_workers dataloader_persistent_workers dataloader_prefetch_factor dataloader_multiprocessing_context
    ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_backend ddp_timeout fsdp_config
""".split()  # noqa: SIM905 - a table of names, one a line, is longer than what it says

ADAPTED = {
    "per_device_train_batch_size": "counts forget rows; retain rows are drawn beside them",
    "num_train_epochs": "passes over the forget set",
    "gradient_accumulation_steps": "losses are means over all of the window, however it is cut",
    "max_grad_norm": "clips what is left after rectification",
    "warmup_steps": "not under lr_scheduler_type constant, which has none",
    "optim": "those that step inside backward, or hold other weights than they train, are refused",
    "lr_scheduler_type": "those that wait for an evaluation's loss are refused",
    "use_liger_kernel": "without Liger's losses, which give no log-probability per token",
    "liger_kernel_config": "likewise",
    "torch_empty_cache_steps": "after each pass of such a step",
    "disable_tqdm": "commands show a progress of their own",
    "save_strategy": "no, steps or epoch; the best model is kept by keep_best",
    "do_eval": "follows eval_strategy",
    "accelerator_config": "batches move from pinned memory while the GPU works, unless set; they are not split",
    "dataloader_pin_memory": "only for GPUs",
    "dataloader_drop_last": "drops the last forget rows of a pass if they fill no batch",
    "remove_unused_columns": "always off: batches are pairs, not columns",
    "train_sampling_strategy": "random, or group_by_length: forget and retain rows each for themselves",
    "fsdp": "as FSDP2",
    "debug": "underflow_overflow",
    "hub_token": "no flag, and in no recipe: log in with `hf auth login`, or set HF_TOKEN; a trainer's reaches no file",
    "skip_memory_metrics": "measures training, not evaluations",
}
"""Setting → how it differs from what it does in transformers."""

REFUSED = {
    "label_smoothing_factor": "the losses are those of objective and retain_loss, which smooth no labels",
    "average_tokens_across_devices": "losses are always means over the tokens of all devices",
    "fp16": "it rescales gradients from step to step, which would distort the retain direction: use bf16",
    "fp16_full_eval": _OWN_EVALUATION,
    "bf16_full_eval": _OWN_EVALUATION,
    "use_cache": "training needs no cache, and what the model's configuration says stays as it is",
    "auto_find_batch_size": (
        "it starts anew with weights that have already moved: gru plan says what fits, and retain_batch_size and "
        "per_device_train_batch_size make batches smaller"
    ),
    "include_num_input_tokens_seen": "it counts one batch a step, and here a step has two",
    "prediction_loss_only": _OWN_EVALUATION,
    "eval_do_concat_batches": _OWN_EVALUATION,
    "eval_use_gather_object": _OWN_EVALUATION,
    "eval_accumulation_steps": _OWN_EVALUATION,
    "include_for_metrics": _OWN_EVALUATION,
    "batch_eval_metrics": _OWN_EVALUATION,
    "label_names": _OWN_EVALUATION,
    "save_only_model": (
        "a run could not go on from such checkpoints as if nothing had happened: "
        "save_total_limit 1 keeps one checkpoint, save_strategy no keeps none"
    ),
    "enable_jit_checkpoint": "it saves in the middle of a step; after Ctrl-C a run finishes its step and saves",
    "push_to_hub": _PUBLISHING,
    "hub_private_repo": _PUBLISHING,
    "hub_model_id": _PUBLISHING,
    "hub_strategy": _PUBLISHING,
    "hub_always_push": _PUBLISHING,
    "hub_revision": _PUBLISHING,
    "load_best_model_at_end": _BEST,
    "metric_for_best_model": _BEST,
    "greater_is_better": _BEST,
    "ignore_data_skip": "a run that goes on would see other rows than one that was never stopped",
    "parallelism_config": "steps are rectified under DDP and FSDP2 alone: use accelerate launch with fsdp_version: 2",
    "dataloader_in_order": "rows in another order make another run: leave it on",
    "length_column_name": "lengths are those of the tokenized rows: leave it away",
    "ddp_static_graph": "a step has two graphs, of the retain and of the forget pass",
    "deepspeed": NO_DEEPSPEED,
    "do_train": _SCRIPT,
    "do_predict": _SCRIPT,
    "resume_from_checkpoint": "the same command goes on from the last checkpoint by itself",
    "local_rank": "launchers say it in the environment",
}
"""Setting → why any value but the default is refused, and what to use instead."""

INHERITED: Mapping[str, Standing] = {
    **{name: Standing("works", "") for name in WORKS},
    **{name: Standing("adapted", note) for name, note in ADAPTED.items()},
    **{name: Standing("refused", note) for name, note in REFUSED.items()},
}
"""Setting → what it does here."""

_STEPS_IN_BACKWARD = "it steps inside backward, before there is anything rectified"
_OTHER_WEIGHTS = "the weights that it trains are not those that it would have saved"
_WAITS = "it waits for the loss of an evaluation, which a run does not measure: choose linear, cosine or another one"

REFUSED_VALUES: Mapping[str, Mapping[str, str]] = {
    "optim": {
        **{name.value: _STEPS_IN_BACKWARD for name in OptimizerNames if name.value.endswith("layerwise")},
        **{name.value: _STEPS_IN_BACKWARD for name in OptimizerNames if "lomo" in name.value},
        **{name.value: _OTHER_WEIGHTS for name in OptimizerNames if name.value.startswith("schedule_free")},
    },
    "lr_scheduler_type": {"reduce_lr_on_plateau": _WAITS, "greedy": _WAITS},
    "save_strategy": {"best": _BEST},
    "debug": {"tpu_metrics_debug": _OWN_EVALUATION},
}
"""Setting → those of its values that are refused, and why."""

WITHOUT_ADAM = ("sgd", "adagrad", "rmsprop", "adafactor", "grokadamw")
"""How the names of optimizers begin that read no adam_beta1, adam_beta2 and adam_epsilon."""

OPTIM_ARGS: Mapping[str, frozenset[str]] = {
    "sgd": frozenset({"momentum", "dampening", "weight_decay", "nesterov"}),
    "adagrad": frozenset({"lr_decay", "weight_decay", "eps"}),
    "rmsprop": frozenset({"momentum", "alpha", "eps", "weight_decay", "centered"}),
    "ademamix": frozenset({"beta1", "beta2", "beta3", "alpha", "eps", "t_alpha", "t_beta3"}),
    "paged_ademamix": frozenset({"beta1", "beta2", "beta3", "alpha", "eps", "t_alpha", "t_beta3"}),
    "adamw_anyprecision": frozenset(
        {"use_kahan_summation", "momentum_dtype", "variance_dtype", "compensation_buffer_dtype"}
    ),
    "galore": frozenset({"rank", "update_proj_gap", "scale", "proj_type"}),
    "apollo": frozenset({"rank", "proj", "scale_type", "update_proj_gap", "scale", "proj_type"}),
    "grokadamw": frozenset({"alpha_init", "lamb", "gamma", "grokking_signal_decay_rate", "gradient_clipping"}),
    "adamw_torch_4bit": frozenset({"block_size", "bf16_stochastic_round"}),
    "adamw_torch_8bit": frozenset({"block_size", "bf16_stochastic_round"}),
    "stable_adamw": frozenset({"max_lr", "kahan_sum", "decouple_lr"}),
}
"""How an optimizer's name begins → what it reads of optim_args; those that are not here read nothing."""

LOW_RANK = ("galore", "apollo")
"""How the names of optimizers begin that read optim_target_modules."""


def check_inherited(config: TrainingArguments) -> None:
    """Check what was set, before ``TrainingArguments`` derives anything of it.

    Raises:
        UserError: a setting that would not act.
    """
    for inherited in dataclasses.fields(TrainingArguments):
        if _is_set(inherited.name, config):
            _check_standing(inherited.name, config)
    _check_optimizer(config)
    _check_schedule(config)


def check_accelerator(config: Any) -> None:
    """Check accelerate's own settings: a pair is a batch of each process, as the sampler drew it.

    Raises:
        UserError: one that would cut batches in another way.
    """
    for name, wanted in (("split_batches", False), ("dispatch_batches", None), ("even_batches", True)):
        if getattr(config, name, wanted) not in (wanted, bool(wanted)):
            raise UserError(
                f"accelerator_config: {name} would cut batches otherwise than they are drawn: leave it away"
            )


def check_parallelism(config: Any) -> None:
    """Check what accelerate was told of devices by its launcher.

    Raises:
        UserError: layers, sequences or experts are to be cut.
    """
    for kind in ("tp", "cp", "sp", "ep"):
        if getattr(config, f"{kind}_enabled", False):
            raise UserError(f"parallelism_config has no place here: {REFUSED['parallelism_config']}")


def _is_set(name: str, config: TrainingArguments) -> bool:
    """Whether a setting has another value than it has by itself. Nothing, off, zero and empty are the same."""
    value, field = getattr(config, name), config.__dataclass_fields__[name]
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    if default == "no" and value is False:  # as which an argument parser reads "no"
        return False
    return bool(value != default and (value or default))


def _check_standing(name: str, config: TrainingArguments) -> None:
    """Of a setting that is set."""
    standing = INHERITED.get(name)
    if standing is None:
        raise UserError(f"{name} comes with a newer transformers, and what it does here is not known: leave it away")
    if standing.verdict == "refused":
        raise UserError(f"{name} has no place here: {standing.note}")
    if name == "do_eval" and config.eval_strategy == "no":
        raise UserError("do_eval follows eval_strategy: set eval_strategy to steps or epoch")
    for part in _parts(getattr(config, name)):
        why = REFUSED_VALUES.get(name, {}).get(part)
        if why:
            raise UserError(f"{name} {part} has no place here: {why}")


def _parts(value: Any) -> list[str]:
    """A setting's value as words: one that may be several is a list, or text with blanks between."""
    if isinstance(value, list):
        return [str(getattr(part, "value", part)) for part in value]
    return str(getattr(value, "value", value)).split()


def _check_optimizer(config: TrainingArguments) -> None:
    """What of the settings the chosen optimizer reads."""
    optimizer = str(getattr(config.optim, "value", config.optim))
    if optimizer.startswith(WITHOUT_ADAM):
        for name in ("adam_beta1", "adam_beta2", "adam_epsilon"):
            if _is_set(name, config):
                raise UserError(f"{name} is not read by --optim {optimizer}: leave it away")
    if config.optim_target_modules and not optimizer.startswith(LOW_RANK):
        raise UserError(
            f"optim_target_modules is not read by --optim {optimizer}, only by galore and apollo optimizers"
        )
    for part in (config.optim_args or "").replace(" ", "").split(","):
        _check_optimizer_argument(part, optimizer)


def _check_optimizer_argument(part: str, optimizer: str) -> None:
    if not part:
        return
    name, equals, _ = part.partition("=")
    read = [names for start, names in OPTIM_ARGS.items() if optimizer.startswith(start)]
    if not read:
        raise UserError(f"optim_args is not read by --optim {optimizer}: leave it away")
    if not equals or name not in read[0]:
        raise UserError(f"optim_args {part}: --optim {optimizer} reads name=value of {', '.join(sorted(read[0]))}")


def _check_schedule(config: TrainingArguments) -> None:
    """Whether the schedule of the learning rate can be made, which otherwise happens behind all preparation."""
    if config.lr_scheduler_kwargs is not None and not isinstance(config.lr_scheduler_kwargs, dict):
        return  # text, which TrainingArguments reads
    schedule = _parts(config.lr_scheduler_type)[0]
    if config.lr_scheduler_kwargs and schedule in ("constant", "constant_with_warmup"):
        raise UserError(f"lr_scheduler_kwargs is not read by lr_scheduler_type {schedule}: leave it away")
    unused = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    try:
        get_scheduler(config.lr_scheduler_type, unused, 1, 10, scheduler_specific_kwargs=config.lr_scheduler_kwargs)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"lr_scheduler_type {schedule} with lr_scheduler_kwargs {config.lr_scheduler_kwargs}: {first_line(error)}"
        ) from None
