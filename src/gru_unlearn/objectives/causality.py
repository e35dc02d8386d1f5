"""Which models can be trained and scored at all: those whose logits at a token depend on nothing behind it.

A model that looks ahead reads its answers off the input: its log-probabilities are none, and nothing fails. So it is
refused, by what its configuration says, or else because it was seen to look ahead.
"""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gru_unlearn.common.modules import evaluating, input_embeddings, text_part, trying
from gru_unlearn.errors import UserError
from gru_unlearn.objectives.token_logps import supervised_logits

_OTHER_HEADS = re.compile(r"For(MaskedLM|PreTraining|\w*Classification|QuestionAnswering|MultipleChoice)$")
_ENOUGH = 64
"""Tokens of a row that are looked at."""


def require_causal_config(config: Any, name: str) -> None:
    """Refuse a configuration that names something else than a causal language model.

    Args:
        config: of transformers; of another make it is let through.
        name: of the model, for the message.

    Raises:
        UserError: an encoder-decoder, a masked model, a classifier, or a decoder that looks ahead.
    """
    reason = _other_kind(config)
    if reason is None:
        return
    kind = getattr(config, "model_type", None) or type(config).__name__
    raise UserError(f"{name}: {kind} {reason}; only causal language models (decoders that look back) can be used here")


def _other_kind(config: Any) -> str | None:
    if getattr(config, "is_encoder_decoder", False):
        return "is an encoder-decoder"
    for architecture in getattr(config, "architectures", None) or []:
        if _OTHER_HEADS.search(architecture):
            return f"was saved as {architecture}, which has no head for the next token"

    text = text_part(config)
    is_either = hasattr(text, "add_cross_attention")  # BERT and its kin are encoders unless they say otherwise
    if is_either and getattr(text, "is_decoder", True) is False:
        return "is an encoder (is_decoder is false in its configuration)"
    if getattr(text, "use_bidirectional_attention", None) in (True, "all"):
        return "looks ahead (use_bidirectional_attention in its configuration)"
    return None


def require_causal(model: nn.Module, ids: Sequence[int]) -> None:
    """Refuse a model that looks ahead, whatever its name says. The model's mode is restored.

    Args:
        model: as in :func:`supervised_logits`.
        ids: a row of tokens; the more of them differ, the better.

    Raises:
        UserError: what stands behind a token changes the logits there.
    """
    if looks_ahead(model, ids):
        raise UserError(
            f"{type(model).__name__} looks ahead: its logits at a token change with what stands behind it; "
            "only causal language models can be used here"
        )


@torch.no_grad()
def looks_ahead(model: nn.Module, ids: Sequence[int]) -> bool:
    """Whether logits change with tokens behind them: by more than rounding, which is seen beside the change where it
    belongs. A row too short or too uniform to tell shows nothing."""
    weight = input_embeddings(model)
    row = torch.tensor([list(ids[:_ENOUGH])], device=weight.device)
    half = row.shape[1] // 2
    other = row.clone()
    other[:, half:] = _reordered(row, half)
    if half == 0 or bool((row == other).all()):
        return False

    rounding = 0.01 if weight.dtype == torch.float32 else 0.05
    with trying("a look at whether the model looks ahead"), evaluating(model):
        change = (_all_logps(model, row) - _all_logps(model, other)).abs().mean(dim=-1)  # [L - 1]
        return bool(change[:half].mean() > rounding * change[half:].mean())
    return False


def _reordered(row: Tensor, half: int) -> Tensor:
    """Other tokens for the second half, [1, L - half]: those of the row, backwards."""
    return row.flip(1)[:, : row.shape[1] - half]


def _all_logps(model: nn.Module, row: Tensor) -> Tensor:
    """Log-probabilities of the whole vocabulary at all tokens but the last: [L - 1, V]."""
    logits = supervised_logits(model, row, torch.ones_like(row), row)
    return logits.float().log_softmax(dim=-1)
