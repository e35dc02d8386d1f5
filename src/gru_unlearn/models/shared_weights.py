"""Adapters on token embeddings that are the output head, too: merged into one, they would change the other as well."""

from collections.abc import Iterator
from typing import Any


def require_mergeable(adapted: Any) -> None:
    """What merging writes must stay with the module that has the adapter.

    Embeddings and head that share a weight share what is merged into it: an adapter on one then acts on the other,
    and adapters on both act twice. Rows of tokens which PEFT keeps alike on both are merged once.

    Args:
        adapted: a model with adapters, as PEFT loads it.

    Raises:
        ValueError: an adapter lies on such a weight.
    """
    shared = _shared_weight(adapted)
    if shared is None:
        return
    for name, module in _with_adapters_of_their_own(adapted):
        if getattr(module.get_base_layer(), "weight", None) is shared:
            where = name.removeprefix("base_model.model.").removesuffix(".token_adapter")
            raise ValueError(
                f"its adapters change {where}, and embeddings and output head share one weight: merged, "
                "they would change both; train adapters on other modules"
            )


def untie(merged: Any) -> None:
    """Say in the configuration that embeddings and head are two, where adapters brought a whole one of their own:
    saved as one, the other would be lost."""
    head = merged.get_output_embeddings()
    config = merged.config
    if head is not None and config.tie_word_embeddings and head.weight is not merged.get_input_embeddings().weight:
        config.tie_word_embeddings = False


def _shared_weight(adapted: Any) -> Any:
    """The weight that is embeddings and head; None where they are two."""
    whole = adapted.get_base_model()
    head = whole.get_output_embeddings()
    if head is None:
        return None
    weight = _innermost(whole.get_input_embeddings()).weight
    return weight if _innermost(head).weight is weight else None


def _innermost(module: Any) -> Any:
    """Below what PEFT wrapped around it."""
    for wrapped in ("original_module", "base_layer"):
        if hasattr(module, wrapped):
            return _innermost(getattr(module, wrapped))
    return module


def _with_adapters_of_their_own(adapted: Any) -> Iterator[tuple[str, Any]]:
    """All modules with adapters but rows of tokens that are kept alike on embeddings and head."""
    from peft.tuners.trainable_tokens import TrainableTokensLayer  # noqa: PLC0415 - slow to import
    from peft.tuners.tuners_utils import BaseTunerLayer  # noqa: PLC0415 - slow to import

    layers = {name: module for name, module in adapted.named_modules() if isinstance(module, BaseTunerLayer)}
    tokens = [module for module in layers.values() if isinstance(module, TrainableTokensLayer)]
    followers = [module for module in tokens if module.tied_adapter is not None]
    alike = {id(module) for module in followers} | {id(module.tied_adapter) for module in followers}
    for name, module in layers.items():
        if id(module) not in alike:
            yield name, module
