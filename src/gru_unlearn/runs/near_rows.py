"""Which retain rows are near the forget rows: by the model's own features, because forgetting does harm there.

A row's feature is the mean hidden state of a middle layer over its tokens. Features of one model lie in a narrow cone,
so that the mean of all is taken off before angles are compared.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from gru_unlearn.common.modules import evaluating, input_embeddings
from gru_unlearn.common.sequences import evenly_spread
from gru_unlearn.data import Example, pad_examples
from gru_unlearn.objectives.token_logps import head_only_at

OnProgress = Callable[[int, int], None]


@torch.no_grad()
def row_features(
    model: nn.Module,
    examples: Sequence[Example],
    pad_token_id: int,
    *,
    batch_size: int = 16,
    on_progress: OnProgress = lambda _done, _total: None,
) -> Tensor:
    """Mean hidden state of the middle layer over each row's tokens: [N, H], float32, on the processor.

    Args:
        model: causal language model of transformers.
        examples: rows, none empty.
        pad_token_id: any token.
        batch_size: rows at once; changes rounding alone.
        on_progress: rows done, of how many.
    """
    found: list[Tensor] = []
    device = input_embeddings(model).device
    with evaluating(model):
        for start in range(0, len(examples), batch_size):
            batch = pad_examples(examples[start : start + batch_size], pad_token_id)
            ids, mask = batch["input_ids"].to(device), batch["attention_mask"].to(device)
            hidden = _middle_hidden(model, ids, mask)
            weights = mask.to(hidden.device)[..., None].float()
            found.append(((hidden.float() * weights).sum(dim=1) / weights.sum(dim=1)).cpu())
            on_progress(min(start + batch_size, len(examples)), len(examples))
    return torch.cat(found)


def _middle_hidden(model: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    """[B, L, H]. No logits are made but one."""
    one = torch.zeros_like(mask, dtype=torch.bool)
    one[0, 0] = True
    with head_only_at(model, one):
        output = model(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False, return_dict=True)
    layers = output.hidden_states
    return layers[len(layers) // 2]


def nearness(forget: Tensor, pool: Tensor) -> Tensor:
    """Cosine of each pool row with the forget row next to it: [N], from features [F, H] and [N, H]."""
    mean = torch.cat([forget, pool]).mean(dim=0)
    one, other = (torch.nn.functional.normalize(rows - mean, dim=-1) for rows in (forget, pool))
    return (other @ one.T).amax(dim=1)


def near_and_spread(near: Sequence[float], count: int, near_share: float = 0.5) -> list[int]:
    """Numbers of ``count`` rows in their order: a share of the nearest, the others evenly spread over the rest.

    Args:
        near: how near each row of the pool is.
        count: how many are wanted; all, where the pool has no more.
        near_share: share of the nearest among them, from 0 to 1.
    """
    if count >= len(near):
        return list(range(len(near)))
    by_nearness = sorted(range(len(near)), key=lambda number: (-near[number], number))
    nearest = by_nearness[: round(near_share * count)]
    rest = sorted(set(range(len(near))).difference(nearest))
    return sorted([*nearest, *evenly_spread(rest, count - len(nearest))])
