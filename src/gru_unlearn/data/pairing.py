"""One retain example for each forget example, drawn at random (arXiv 2503.09117), reproducibly."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from gru_unlearn.data.encoding import Example, collate

Pair = tuple[int, int]


class PairSampler(Sampler[Pair]):
    """Index pairs (forget, retain): each epoch every forget index once, in random order, with a random partner.

    The order depends on seed and epoch alone, so a resumed run draws what the uninterrupted one would have drawn.
    """

    def __init__(self, forget: int, retain: int, seed: int) -> None:
        self.forget, self.retain, self.seed = forget, retain, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate's data loader at the start of each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Pair]:
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + self.epoch)
        order = torch.randperm(self.forget, generator=generator).tolist()
        partners = torch.randint(self.retain, (self.forget,), generator=generator).tolist()
        return iter(zip(order, partners, strict=True))

    def __len__(self) -> int:
        return self.forget


class ForgetRetainDataset(Dataset[dict[str, Example]]):
    """Examples by index pair, as :class:`PairSampler` draws them: ``{"forget": ..., "retain": ...}``."""

    def __init__(self, forget: Sequence[Example], retain: Sequence[Example]) -> None:
        self.forget, self.retain = forget, retain

    def __getitem__(self, pair: Pair) -> dict[str, Example]:
        return {"forget": self.forget[pair[0]], "retain": self.retain[pair[1]]}

    def __len__(self) -> int:
        return len(self.forget)


def collate_pairs(pairs: Sequence[dict[str, Example]], pad_token_id: int) -> dict[str, dict[str, Tensor]]:
    """``{"forget": batch, "retain": batch}``, each padded to its own longest example."""
    return {side: collate([pair[side] for pair in pairs], pad_token_id) for side in ("forget", "retain")}
