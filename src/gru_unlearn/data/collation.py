"""Examples → padded batches, with everything counted here that would make a device wait if it were counted there."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gru_unlearn.data.encoding import Example
from gru_unlearn.objectives import IGNORE_INDEX, supervised_positions


def collate(examples: Sequence[Example], pad_token_id: int) -> dict[str, Any]:
    """Pad on the right to the longest: ``input_ids``, ``attention_mask``, ``labels`` [B, L], and what else the examples
    carry: ``reference [B]``, ``token_reference [B, T]``, ``alternative_reference [B]``, ``alternative`` (a batch)."""
    length = max(len(example["input_ids"]) for example in examples)

    def padded(key: str, filler: int) -> Tensor:
        return torch.tensor([[*example[key], *[filler] * (length - len(example[key]))] for example in examples])

    lengths = torch.tensor([len(example["input_ids"]) for example in examples])
    batch: dict[str, Any] = {
        "input_ids": padded("input_ids", pad_token_id),
        "attention_mask": (torch.arange(length) < lengths[:, None]).long(),
        "labels": padded("labels", IGNORE_INDEX),
    }
    for key in ("reference", "alternative_reference"):
        if key in examples[0]:
            batch[key] = torch.tensor([example[key] for example in examples])
    if "token_reference" in examples[0]:
        batch["token_reference"] = torch.nn.utils.rnn.pad_sequence(
            [example["token_reference"] for example in examples], batch_first=True
        )
    if "alternative" in examples[0]:
        batch["alternative"] = collate([example["alternative"] for example in examples], pad_token_id)
    return batch


def locate_supervised(batch: dict[str, Any]) -> dict[str, Any]:
    """The batch with ``supervised``: where its labels are, found on the host, for it and for its ``alternative``."""
    batch["supervised"] = supervised_positions(batch["labels"])
    if "alternative" in batch:
        locate_supervised(batch["alternative"])
    return batch
