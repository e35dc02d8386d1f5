"""A model's modes and parts, whatever it is wrapped in."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

LOGGER = logging.getLogger(__name__)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in evaluation mode (dropout is off); afterwards in the mode it was in."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@contextmanager
def trying(shortcut: str) -> Iterator[None]:
    """Inside, something is tried that a model may be unfit for: an error ends the block and is noted, no more.

    Memory that runs out is an error as ever: among several processes the others would not hear of it.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as reason:  # what stumbles may be code of any architecture
        LOGGER.info("without %s: %s: %s", shortcut, type(reason).__name__, reason)


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


def text_config(model: nn.Module) -> Any:
    """The configuration of what reads text: a part of a composite model's; None for a model without any."""
    return text_part(getattr(unwrapped(model, "get_input_embeddings"), "config", None))


def text_part(config: Any) -> Any:
    """What a configuration says about text, which in a composite one stands in a part of its own."""
    if not hasattr(config, "get_text_config"):
        return config
    return config.get_text_config()


_BESIDE_LOGITS = ("output_router_logits", "output_hidden_states", "output_attentions")


def logits_alone(model: nn.Module) -> dict[str, bool]:
    """Arguments of a forward pass that switch off what a configuration asks for beside logits.

    Nobody here reads it, and routers' statistics fail where masks are those of trees or reach back into a cache.
    """
    config = text_config(model)
    unread = {name: False for name in _BESIDE_LOGITS if getattr(config, name, False)}
    if getattr(config, "return_dict", True) is False:
        unread["return_dict"] = True
    return unread


def positions(model: Any) -> int | None:
    """How many tokens a row may have at most, where positions are looked up in a table; None: any number.

    GPT-2, OPT and their like learn one vector a position, and OPT's table begins with two that stand for none; GPT-J
    keeps a table of angles. Rotary positions that are calculated have no end.

    Args:
        model: of transformers; one on the meta device will do.
    """
    stated = getattr(text_config(model), "max_position_embeddings", None)
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
