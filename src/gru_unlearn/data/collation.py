"""Examples → padded batches, with everything counted here that would make a device wait if it were counted there."""

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gru_unlearn.data.encoding import Example
from gru_unlearn.objectives import IGNORE_INDEX, Supervised, supervised_positions


class Batch(TypedDict):
    """Examples side by side, padded on the right to the longest: [B, L]. What stands below the first three is there if
    the examples carry it."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    supervised: NotRequired[Supervised]
    """where the labels are, once they are located"""
    alternative: NotRequired["Batch"]
    """of the other answers"""
    reference: NotRequired[Tensor]
    """[B]"""
    token_reference: NotRequired[Tensor]
    """[B, T]"""
    anchor_logps: NotRequired[Tensor]
    """[N, K+1], row after row"""
    anchor_tokens: NotRequired[Tensor]
    """[N, K]"""
    alternative_reference: NotRequired[Tensor]
    """[B]"""


def pad_examples(examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
    """``input_ids``, ``attention_mask`` and ``labels`` of the examples, padded on the right to the longest: [B, L]."""
    ids = [torch.as_tensor(example["input_ids"]) for example in examples]
    labels = [torch.as_tensor(example["labels"]) for example in examples]
    padded = pad_sequence(ids, batch_first=True, padding_value=pad_token_id)
    lengths = torch.tensor([len(row) for row in ids])
    return {
        "input_ids": padded,
        "attention_mask": (torch.arange(padded.shape[1]) < lengths[:, None]).long(),
        "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORE_INDEX),
    }


def collate(examples: Sequence[Example], pad_token_id: int) -> Batch:
    """Padded examples, and what else they carry: see :class:`Batch`."""
    padded = pad_examples(examples, pad_token_id)
    batch = Batch(input_ids=padded["input_ids"], attention_mask=padded["attention_mask"], labels=padded["labels"])
    first = examples[0]
    if "reference" in first:
        batch["reference"] = torch.tensor([example["reference"] for example in examples])
    if "alternative_reference" in first:
        batch["alternative_reference"] = torch.tensor([example["alternative_reference"] for example in examples])
    if "token_reference" in first:
        batch["token_reference"] = pad_sequence([example["token_reference"] for example in examples], batch_first=True)
    if "anchor_logps" in first:
        batch["anchor_logps"] = torch.cat([example["anchor_logps"] for example in examples])
        batch["anchor_tokens"] = torch.cat([example["anchor_tokens"] for example in examples])
    if "alternative" in first:
        batch["alternative"] = collate([example["alternative"] for example in examples], pad_token_id)
    return batch


def locate_supervised(batch: Batch) -> Batch:
    """The batch with ``supervised``: where its labels are, found on the host, for it and for its ``alternative``."""
    batch["supervised"] = supervised_positions(batch["labels"])
    if "alternative" in batch:
        locate_supervised(batch["alternative"])
    return batch
