"""A forward pass on the longest row of each set, before anything long is done with a model: what cannot work shows."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gru_unlearn.common.modules import evaluating
from gru_unlearn.data import Example, pad_examples, with_alternatives
from gru_unlearn.errors import UserError, first_line
from gru_unlearn.objectives import token_logps
from gru_unlearn.objectives.causality import require_causal

LOWER = (
    "lower --max-length, the batch sizes, or the memory of a weight (--dtype bfloat16, --use-peft, --load-in-4bit); "
    "gru plan calculates what fits"
)


def try_longest_rows(
    model: Any,
    sets: Mapping[str, Sequence[Example]],
    pad_token_id: int,
    device: torch.device,
    *,
    bf16: bool | None = False,
) -> None:
    """Ask a model for the log-probabilities of each set's longest row, and whether it looks ahead there. Takes no
    random number.

    Args:
        model: causal language model, on the device.
        sets: name → examples; their alternatives are tried as well.
        pad_token_id: of the tokenizer.
        device: where the model is.
        bf16: compute in bfloat16, whatever the weights are.

    Raises:
        UserError: out of memory, NaN or infinity, any other error, or a model that looks ahead.
    """
    for name, examples in with_alternatives(sets).items():
        longest = max(examples, key=lambda example: len(example["input_ids"]), default=None)
        if longest is None:
            continue
        what = f"{name}: a forward pass on the longest row ({len(longest['input_ids'])} tokens)"
        batch = {key: values.to(device) for key, values in pad_examples([longest], pad_token_id).items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=bool(bf16)):
            logps = _logps(model, batch, what)
        if not logps.isfinite().all():
            raise UserError(f"{what} gives NaN or infinity: the model is broken, or its numbers too small (--dtype)")
        require_causal(model, longest["input_ids"])


@torch.no_grad()
def _logps(model: Any, batch: dict[str, Tensor], what: str) -> Tensor:
    try:
        with evaluating(model):
            logps, _ = token_logps(model, batch["input_ids"], batch["attention_mask"], batch["labels"])
    except torch.OutOfMemoryError:
        raise UserError(f"{what} is out of memory: {LOWER}") from None
    except Exception as error:  # models raise many types; each becomes one line
        raise UserError(f"{what} fails ({first_line(error)})") from error
    return logps
