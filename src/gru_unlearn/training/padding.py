"""Whether a model can do without an attention mask.

Rows are padded at their end, and a causal model does not look ahead: no real token sees the padding, mask or no mask.
Without one, attention takes its fastest kernel and keeps no [L, L] matrix for each row, and keys and values that heads
share need not be repeated. That a model is causal is not taken on trust.
"""

import torch
import torch.nn.functional as F
from torch import nn

from gru_unlearn.data import Example
from gru_unlearn.data.collation import collate
from gru_unlearn.objectives import IGNORE_INDEX, token_logps

_ROOM = 8  # columns of padding behind the longer row


@torch.no_grad()
def needs_attention_mask(model: nn.Module, examples: list[Example], pad_token_id: int, device: torch.device) -> bool:
    """Try it on the shortest and the longest example: does what stands behind a row's end change what the model says?

    Compared are log-probabilities without a mask behind which one filling, then another, must be the same, and those
    with a mask, which may differ by rounding, because another kernel is at work. The model's mode is restored.
    """
    ends = [pick(examples, key=lambda example: len(example["input_ids"])) for pick in (min, max)]
    batch = collate(ends, pad_token_id)
    ids, mask = (F.pad(batch[key], (0, _ROOM)).to(device) for key in ("input_ids", "attention_mask"))
    labels = F.pad(batch["labels"], (0, _ROOM), value=IGNORE_INDEX).to(device)
    other = torch.where(mask.bool(), ids, ids.roll(ids.shape[1] // 2, dims=1))
    was_training = model.training
    model.eval()
    try:
        seen = [token_logps(model, x, m, labels)[0] for x, m in ((ids, mask), (ids, None), (other, None))]
    finally:
        model.train(was_training)
    masked, bare, filled = seen
    close = 100 * torch.finfo(next(p.dtype for p in model.parameters() if p.is_floating_point())).eps
    same = torch.allclose(bare, filled, rtol=close, atol=close)
    return not (same and torch.allclose(masked, bare, rtol=0.05, atol=0.05))
