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


def positions(model: Any) -> int | None:
    """How many tokens a row may have at most, where positions are looked up in a table; None: any number.

    GPT-2, OPT and their like learn one vector a position, and OPT's table begins with two that stand for none; GPT-J
    keeps a table of angles. Rotary positions that are calculated have no end.

    Args:
        model: of transformers; one on the meta device will do.
    """
    model = unwrapped(model, "get_input_embeddings")
    stated = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(stated, int):
        return None
    if any(name.endswith("embed_positions") and len(buffer) == stated for name, buffer in model.named_buffers()):
        return stated
    words = input_embeddings(model)
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding) and module.weight is not words]
    for table in tables:
        if 0 <= table.num_embeddings - stated <= _UNUSED_POSITIONS:
            return stated - _before_first(table)
    return None


_UNUSED_POSITIONS = 4
"""A table of positions may be longer than what the configuration states, by those that stand for none."""


def _before_first(table: nn.Embedding) -> int:
    """RoBERTa and its like count positions from behind their padding token's, and state the whole table's length."""
    if table.padding_idx is None:
        return 0
    return table.padding_idx + 1
