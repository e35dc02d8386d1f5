"""Whether rows and settings go with the models that they meet: asked of configurations, before any weight is read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from gru_unlearn.data import Example, with_alternatives
from gru_unlearn.data.model_room import ids_of, require_room
from gru_unlearn.errors import UserError, first_line
from gru_unlearn.models.locating import read_object
from gru_unlearn.models.same_tokens import require_same_tokens
from gru_unlearn.models.subject import Subject
from gru_unlearn.runs.new_adapters import add_adapters
from gru_unlearn.runs.recipe import Recipe
from gru_unlearn.training.inputs import inputs_for, train_only
from gru_unlearn.training.method import Method

GENERATION_CONFIG = "generation_config.json"

Sets = Mapping[str, Sequence[Example]]


def check_models(recipe: Recipe, models: Mapping[str, Subject], sets: Sets) -> None:
    """Check the target, the retain model and the base model; the latter reads what the target's tokenizer cut.

    Raises:
        UserError: rows that a model has no positions or no embeddings for, settings that name none of its modules, or
            a generation configuration that does not load.
    """
    for name, subject in models.items():
        check_generation_config(subject.folder)
        model = subject.empty()
        reads_as = models["model"] if name == "base_model" else subject
        if name == "base_model":
            require_same_tokens(subject, models["model"], sets)
        require_room(model, ids_of(with_alternatives(sets)), reads_as.encoder.tokenizer, subject.label)
        if name == "model":
            _check_modules(model, recipe)


def check_generation_config(folder: Path) -> None:
    """Whether the settings of generation that come with a model load. Transformers passes over a file that does not,
    and a saved model would lack what stood in it.

    Raises:
        UserError: they do not.
    """
    if not (folder / GENERATION_CONFIG).is_file():
        return
    read_object(folder / GENERATION_CONFIG, str(folder))
    try:
        ends = GenerationConfig.from_pretrained(folder).eos_token_id
    except Exception as error:  # its checks raise many types; each becomes one line
        raise UserError(
            f"{folder / GENERATION_CONFIG} does not load ({first_line(error)}): mend or remove it"
        ) from None
    for end in ends if isinstance(ends, list) else [ends]:
        if end is not None and not isinstance(end, int):
            raise UserError(f"{folder / GENERATION_CONFIG}: eos_token_id {end!r} is no token's number")


def _check_modules(model: Any, recipe: Recipe) -> None:
    """Settings that name parts of the model."""
    config = recipe.config
    if recipe.use_peft:
        model = add_adapters(model, recipe)
    if config.trainable_params is not None:
        train_only(model, config.trainable_params)
    inputs_for(model, config, Method(config).needs, reference=lambda: None)  # type: ignore[arg-type,return-value]
