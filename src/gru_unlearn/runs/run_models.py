"""A run's models, loaded as its settings say, and what they give at a glance."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import convert_outputs_to_fp32
from torch import nn
from transformers import PreTrainedModel, PrinterCallback, ProgressCallback, Trainer, TrainerCallback

from gru_unlearn.common.options import flag_of
from gru_unlearn.common.sequences import evenly_spread
from gru_unlearn.data import Example
from gru_unlearn.errors import UserError
from gru_unlearn.models.locating import holds_adapters
from gru_unlearn.models.subject import Subject
from gru_unlearn.runs.new_adapters import add_adapters
from gru_unlearn.runs.run_preparation import Prepared
from gru_unlearn.training import UnlearningConfig, UnlearningTrainer, answer_logps
from gru_unlearn.training.longest_rows import try_longest_rows
from gru_unlearn.training.scores import AnswerLogps


def load_as_set(prepared: Prepared, folder: Path) -> PreTrainedModel:
    """A model, loaded as the run's settings say."""
    in_4bit = prepared.recipe.load_in_4bit and not holds_adapters(folder)  # adapters are merged exactly
    model: PreTrainedModel = prepared.model.settings.model(folder, load_in_4bit=in_4bit)
    return model


def load_on_device(prepared: Prepared, folder: Path) -> Any:
    """The same, where the run's forward passes are, computing as they do: only so can numbers be compared."""
    config = prepared.recipe.config
    model: Any = load_as_set(prepared, folder)
    return compute_as_steps(model.to(config.device), config)


def compute_as_steps(model: Any, config: UnlearningConfig) -> Any:
    """The model with its forward in the type in which a run's steps compute, as accelerate has it; it is changed."""
    if config.bf16:
        forward = torch.autocast(config.device.type, torch.bfloat16)(model.forward)
        model.forward = convert_outputs_to_fp32(forward)
    return model


def trainable_model(prepared: Prepared) -> Any:
    """The run's model, or adapters on it."""
    recipe = prepared.recipe
    model: Any = load_as_set(prepared, prepared.model.folder)
    if not recipe.use_peft:
        return model
    adapted = add_adapters(model, recipe)
    base = str(prepared.model.folder.resolve())  # a relative path would mean another folder, or a hub model, elsewhere
    for config in adapted.peft_config.values():
        config.base_model_name_or_path = base
    return adapted


def make_trainer(
    prepared: Prepared, forget: Sequence[Example], callbacks: list[TrainerCallback], **more: Any
) -> UnlearningTrainer:
    """A trainer of the run's model on these rows, whose progress is shown by ``callbacks`` alone."""
    config = prepared.recipe.config
    show_elsewhere(config)
    trainer = UnlearningTrainer(
        trainable_model(prepared),
        config,
        forget_dataset=forget,
        processing_class=prepared.model.encoder.tokenizer,
        callbacks=callbacks,
        **more,
    )
    silence(trainer)
    return trainer


def show_elsewhere(config: UnlearningConfig) -> None:
    """Progress is shown by commands, not by Trainer; a run that trackers follow is called like its folder."""
    config.disable_tqdm = True
    if config.report_to and config.run_name is None:
        config.run_name = Path(config.output_dir or ".").resolve().name


def silence(trainer: Trainer) -> None:
    """Take away what Trainer itself shows of its progress."""
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)


def refuse_broken(prepared: Prepared, model: nn.Module, device: torch.device) -> None:
    """Pass the longest rows through the run's model, which is on the device.

    Raises:
        UserError: it fails there, or gives no numbers.
    """
    pad = prepared.model.encoder.tokenizer.pad_token_id
    try_longest_rows(model, prepared.examples, pad, device, bf16=prepared.recipe.config.bf16)


def value_of_mark(prepared: Prepared, model: nn.Module, subject: Subject, examples: Sequence[Example]) -> float:
    """Mean probability that a model gives the examples' answers, over as many as the trajectory is measured on.

    Args:
        prepared: the run.
        model: on the run's device.
        subject: which model it is.
        examples: the forget rows, or those that stand in for them.

    Raises:
        UserError: the model gives none.
    """
    value = mean_probability(prepared, model, evenly_spread(examples, prepared.recipe.config.eval_max_rows))
    require_finite(value, subject)
    return value


def require_finite(probability: float, subject: Subject) -> None:
    """Whether what a model gives the forget answers, or what stands in for them, is a number.

    Raises:
        UserError: it is none.
    """
    if not math.isfinite(probability):
        raise UserError(
            f"{flag_of(subject.name)} {subject.source}: its probability of the forget answers is not a finite number: "
            "the model is broken, fetch or make it again"
        )


def mean_probability(prepared: Prepared, model: nn.Module, examples: Sequence[Example]) -> float:
    """Mean probability of the examples' answers under a model that is on the run's device."""
    return scores_of(prepared, model, examples).mean_probability


def scores_of(prepared: Prepared, model: nn.Module, examples: Sequence[Example]) -> AnswerLogps:
    """Log-probabilities of the examples' answers under a model that is on the run's device."""
    config = prepared.recipe.config
    return answer_logps(
        model,
        examples,
        batch_size=config.per_device_eval_batch_size,
        pad_token_id=prepared.model.encoder.tokenizer.pad_token_id,
        device=config.device,
    )
