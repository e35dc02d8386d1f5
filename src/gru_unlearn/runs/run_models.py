"""A run's models, loaded as its settings say, and what they give at a glance."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel, PrinterCallback, ProgressCallback, TrainerCallback

from gru_unlearn.data import Example
from gru_unlearn.models.locating import holds_adapters
from gru_unlearn.runs.adapters import add_adapters
from gru_unlearn.runs.run_preparation import Prepared
from gru_unlearn.training import UnlearningTrainer, answer_logps


def load_as_set(prepared: Prepared, folder: Path) -> PreTrainedModel:
    """A model, loaded as the run's settings say."""
    in_4bit = prepared.recipe.load_in_4bit and not holds_adapters(folder)  # adapters are merged exactly
    model: PreTrainedModel = prepared.model.settings.model(folder, load_in_4bit=in_4bit)
    return model


def load_on_device(prepared: Prepared, folder: Path) -> Any:
    """The same, where the run's forward passes are."""
    model: Any = load_as_set(prepared, folder)
    return model.to(prepared.recipe.config.device)


def _trainable_model(prepared: Prepared) -> Any:
    """The target, or adapters on it."""
    recipe = prepared.recipe
    model: Any = load_as_set(prepared, prepared.model.folder)
    if not recipe.use_peft:
        return model
    return add_adapters(model, recipe)


def make_trainer(
    prepared: Prepared, forget: Sequence[Example], callbacks: list[TrainerCallback], **more: Any
) -> UnlearningTrainer:
    """A trainer of the run's model on these rows, whose progress is shown by ``callbacks`` alone."""
    config = prepared.recipe.config
    config.disable_tqdm = True
    trainer = UnlearningTrainer(
        _trainable_model(prepared),
        config,
        forget_dataset=forget,
        processing_class=prepared.model.encoder.tokenizer,
        callbacks=callbacks,
        **more,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer


def mean_probability(prepared: Prepared, model: nn.Module, examples: Sequence[Example]) -> float:
    """Mean probability of the examples' answers under a model that is on the run's device."""
    config = prepared.recipe.config
    scores = answer_logps(
        model,
        examples,
        batch_size=config.per_device_eval_batch_size,
        pad_token_id=prepared.model.encoder.tokenizer.pad_token_id,
        device=config.device,
    )
    return scores.mean_probability
