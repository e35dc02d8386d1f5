"""What a forward pass may leave out because nobody reads it. Nothing is taken on trust: each is tried on two rows, and
left alone where the try fails.

*The attention mask.* Rows are padded at their end, and a causal model does not look ahead: no real token sees the
padding, mask or no mask. Without one, attention takes its fastest kernel and keeps no [L, L] matrix for each row, and
keys and values that heads share need not be repeated.

*The last layer's MLP* at prompts and padding. Behind the last attention no position reads another, and logits are
wanted only where a supervised token is predicted.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gru_unlearn.common.modules import evaluating, positions, text_config, trying
from gru_unlearn.data import Example, pad_examples
from gru_unlearn.objectives import IGNORE_INDEX, supervised_positions, token_logps
from gru_unlearn.objectives.token_logps import computed_only_at

_ROOM = 8  # columns of padding behind the longer row


def shortest_and_longest(examples: list[Example], model: Any, pad_token_id: int) -> dict[str, Tensor]:
    """A batch to try things on, where the model is: ``input_ids``, ``attention_mask``, ``labels`` [2, L]. Padding
    stands behind both rows: one as long as the model has positions is cut."""
    ends = [pick(examples, key=lambda example: len(example["input_ids"])) for pick in (min, max)]
    batch = pad_examples(ends, pad_token_id)
    length = batch["input_ids"].shape[1]
    most = positions(model)
    if most is not None:
        length = min(length, most - _ROOM)
    fillers = {"input_ids": pad_token_id, "attention_mask": 0, "labels": IGNORE_INDEX}
    device = next(model.parameters()).device
    return {
        name: F.pad(batch[name][:, :length], (0, _ROOM), value=filler).to(device) for name, filler in fillers.items()
    }


@torch.no_grad()
def needs_attention_mask(model: nn.Module, batch: dict[str, Tensor]) -> bool:
    """Whether what stands behind a row's end changes what the model says.

    Compared are log-probabilities without a mask behind which one filling, then another, must be the same, and those
    with a mask, which may differ by rounding, because another kernel is at work. The model's mode is restored.
    """
    ids, mask, labels = batch["input_ids"], batch["attention_mask"], batch["labels"]
    if _shows_nothing(batch):
        return True
    other = torch.where(mask.bool(), ids, ids.roll(ids.shape[1] // 2, dims=1))
    with evaluating(model):
        masked, _ = token_logps(model, ids, mask, labels)
        with trying("training without an attention mask"):
            bare, _ = token_logps(model, ids, None, labels)
            filled, _ = token_logps(model, other, None, labels)
            return not (_same(model, bare, filled) and torch.allclose(masked, bare, rtol=0.05, atol=0.05))
    return True


@torch.no_grad()
def last_mlp(model: Any, batch: dict[str, Tensor]) -> nn.Module | None:
    """The MLP of the last layer if it changes nothing to compute it only where a supervised token is predicted.

    None under gradient checkpointing, which computes layers again after the positions are forgotten, for compiled
    models, which would be compiled anew for each number of positions, and for layers of another make.
    """
    mlp = _last_layers_mlp(model)
    if mlp is None or _runs_otherwise(model) or _shows_nothing(batch):
        return None
    where = supervised_positions(batch["labels"])
    asked = model, batch["input_ids"], batch["attention_mask"], batch["labels"], where
    with evaluating(model):
        whole, _ = token_logps(*asked)
        with trying("the last MLP at predicting positions only"), computed_only_at(mlp, where["predicting"]):
            trimmed, _ = token_logps(*asked)
            if _same(model, whole, trimmed):
                return mlp
    return None


def _last_layers_mlp(model: Any) -> nn.Module | None:
    """What is called an MLP in the last of the model's layers, if it has one list of layers."""
    depth = getattr(text_config(model), "num_hidden_layers", None)
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == depth]
    if len(lists) != 1:
        return None
    mlp = getattr(lists[0][-1], "mlp", None)
    if not type(mlp).__name__.endswith("MLP"):
        return None
    return mlp


def _runs_otherwise(model: Any) -> bool:
    """Whether layers are computed a second time or compiled."""
    return any(
        getattr(m, "gradient_checkpointing", False)
        or hasattr(m, "_checkpoint_wrapped_module")
        or hasattr(m, "_orig_mod")
        for m in model.modules()
    )


def _shows_nothing(batch: dict[str, Tensor]) -> bool:
    """Whether no supervised token is left to compare, because rows as long as the model's positions were cut."""
    return not (batch["labels"][:, 1:] != IGNORE_INDEX).any()


def _same(model: nn.Module, one: Tensor, other: Tensor) -> bool:
    """Equal up to the order of sums."""
    close = 100 * torch.finfo(next(p.dtype for p in model.parameters() if p.is_floating_point())).eps
    return torch.allclose(one, other, rtol=close, atol=close)
