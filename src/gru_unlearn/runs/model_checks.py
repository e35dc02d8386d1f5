"""Whether rows and settings go with the models that they meet: asked of configurations, before any weight is read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from gru_unlearn.common.modules import input_embeddings, positions
from gru_unlearn.data import Example
from gru_unlearn.errors import UserError, first_line
from gru_unlearn.models.loading import empty_model
from gru_unlearn.models.locating import read_object
from gru_unlearn.models.subject import Subject
from gru_unlearn.runs.new_adapters import add_adapters
from gru_unlearn.runs.recipe import Recipe
from gru_unlearn.training.inputs import inputs_for, train_only
from gru_unlearn.training.method import Method

GENERATION_CONFIG = "generation_config.json"

Sets = Mapping[str, Sequence[Example]]


def check_models(recipe: Recipe, models: Mapping[str, Subject], sets: Sets) -> None:
    """Check the target and the retain model.

    Raises:
        UserError: rows that a model has no positions or no embeddings for, settings that name none of its modules, or
            a generation configuration that does not load.
    """
    for name, subject in models.items():
        check_generation_config(subject.folder)
        model = _empty(subject, recipe)
        check_positions(model, sets, subject.label)
        check_tokens(model, sets, subject)
        if name == "model":
            _check_modules(model, recipe)


def _empty(subject: Subject, recipe: Recipe) -> Any:
    try:
        return empty_model(subject.folder, recipe.trust_remote_code)
    except Exception as error:  # configurations of many architectures raise many types; each becomes one line
        raise UserError(f"{subject.source}: no causal language model can be made of it ({first_line(error)})") from None


def check_positions(model: Any, sets: Sets, label: str) -> None:
    """Whether every row ends before the model's positions do.

    Raises:
        UserError: one does not.
    """
    most = positions(model)
    if most is None:
        return
    for name, examples in sets.items():
        longest = max((len(example["input_ids"]) for example in examples), default=0)
        if longest > most:
            raise UserError(
                f"{name}: the longest row has {longest} tokens, and the {label} has positions for {most} only: "
                f"pass --max-length {most}, and --allow-truncation to train on what is left of answers"
            )


def check_tokens(model: Any, sets: Sets, subject: Subject) -> None:
    """Whether the model has an embedding for every token of the rows, and for padding.

    Raises:
        UserError: it lacks one, because the tokenizer grew and the model did not, or is another model's.
    """
    rows, tokenizer = len(input_embeddings(model)), subject.encoder.tokenizer
    used = {"padding": tokenizer.pad_token_id}
    for name, examples in sets.items():
        used[name] = max((max(example["input_ids"]) for example in examples), default=0)
    for name, token in used.items():
        if token >= rows:
            word = tokenizer.convert_ids_to_tokens(token)
            raise UserError(
                f"{name}: token {token} ({word!r}) has no embedding in the {subject.label}, which has {rows}: its "
                "tokenizer is another model's, or grew and the model did not; --pad-token names another padding"
            )


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
