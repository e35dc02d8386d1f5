"""A model's modes and parts, whatever it is wrapped in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in evaluation mode (dropout is off); afterwards in the mode it was in."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def unwrapped(model: nn.Module, method: str) -> Any:
    """The innermost model that has a method: what DDP and its like are wrapped around."""
    inner: Any = model
    while not hasattr(inner, method):
        inner = inner.module
    return inner


def input_embeddings(model: nn.Module) -> Tensor:
    """The weight that token ids meet first: its device is where inputs belong, its type that of the hidden states."""
    return unwrapped(model, "get_input_embeddings").get_input_embeddings().weight


def output_head(model: nn.Module) -> nn.Module:
    """The module that turns hidden states into logits."""
    return unwrapped(model, "get_output_embeddings").get_output_embeddings()
