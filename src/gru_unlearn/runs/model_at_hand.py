"""A run's model, loaded while the run is still being prepared, to be asked something, and let go again."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gru_unlearn.models.loading import free_memory
from gru_unlearn.models.locating import holds_adapters
from gru_unlearn.models.subject import Subject
from gru_unlearn.runs.recipe import Recipe


@contextmanager
def at_hand(recipe: Recipe, model: Subject) -> Iterator[Any]:
    """The model where the run's forward passes will be, in evaluation mode."""
    in_4bit = recipe.load_in_4bit and not holds_adapters(model.folder)  # adapters are merged exactly
    loaded: Any = model.settings.model(model.folder, load_in_4bit=in_4bit)
    try:
        yield loaded.to(recipe.config.device).eval()
    finally:
        del loaded
        free_memory()
