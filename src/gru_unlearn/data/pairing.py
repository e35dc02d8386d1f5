"""Retain examples for each forget example, by default one (arXiv 2503.09117), drawn at random and reproducibly."""

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import TypedDict

import torch
from torch.utils.data import Dataset, Sampler

from gru_unlearn.data.collation import Batch, collate, locate_supervised
from gru_unlearn.data.encoding import Example

Pair = tuple[int, list[int]]

CANDIDATE_SHUFFLES, PARTNER_SHUFFLES = 250_000, 500_000
"""Seeds from here on shuffle the forget set, of which a step's rows are chosen, and from there on the retain set; those
below are for the epochs' own draws."""


class PairSampler(Sampler[Pair]):
    """Forget indices, each once an epoch in random order, with the indices of their random retain partners.

    No retain example comes again before all have come, over epochs too. (Drawn independently, some come three times
    before others come once; docs/results.md has what that costs.) The order depends on seed and epoch alone, so a
    resumed run draws what the uninterrupted one would have drawn.

    Args:
        forget, retain: sizes of the sets.
        seed: of all draws.
        batch_size: how many consecutive forget examples make a batch.
        retain_batch_size: how many partners these have together, at least 1; by default one each.
        lengths: of all forget examples and of all retain examples: batches are made of examples of similar length then,
            forget and retain each for themselves, so that who meets whom stays a matter of chance.
    """

    def __init__(
        self,
        forget: int,
        retain: int,
        seed: int,
        batch_size: int = 1,
        retain_batch_size: int | None = None,
        lengths: tuple[Sequence[int], Sequence[int]] | None = None,
    ) -> None:
        self.forget, self.retain, self.seed = forget, retain, seed
        self.batch_size, self.retain_batch_size = batch_size, retain_batch_size or batch_size
        self.lengths = lengths
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by accelerate's data loader at the start of each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Pair]:
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + self.epoch)
        order = torch.randperm(self.forget, generator=generator).tolist()
        counts = [self._partners_before(number + 1) - self._partners_before(number) for number in range(self.forget)]
        partners = endless_draw(self.retain, self.epoch * sum(counts), sum(counts), self.seed, PARTNER_SHUFFLES)
        if self.lengths is not None:
            order = _by_length(order, self.lengths[0], self.batch_size, generator)
            partners = _by_length(partners, self.lengths[1], self.retain_batch_size, generator)
        drawn = iter(partners)
        return iter([(index, list(islice(drawn, count))) for index, count in zip(order, counts, strict=True)])

    def _partners_before(self, number: int) -> int:
        """How many partners the first ``number`` forget examples have: spread evenly, the first of a batch has one."""
        batches, rest = divmod(number, self.batch_size)
        return batches * self.retain_batch_size + -(-rest * self.retain_batch_size // self.batch_size)

    def __len__(self) -> int:
        return self.forget


def endless_draw(size: int, start: int, count: int, seed: int, shuffles: int) -> list[int]:
    """A piece of an endless row of indices below ``size``: one shuffle of all of them after the other.

    Args:
        size: how many indices there are.
        start, count: where the piece begins, and its length.
        seed: of all draws.
        shuffles: what is shuffled, one of the numbers above.
    """
    first, offset = divmod(start, size)
    found: list[int] = []
    for number in range(first, (start + count - 1) // size + 1):
        generator = torch.Generator().manual_seed(1_000_003 * seed + shuffles + number)
        found += torch.randperm(size, generator=generator).tolist()
    return found[offset : offset + count]


def _by_length(items: list[int], lengths: Sequence[int], size: int, generator: torch.Generator) -> list[int]:
    """The items in batches of similar length, these in random order; a short last batch stays the last.

    Items are sorted within pools of up to 50 batches, at least four pools, as in transformers' LengthGroupedSampler: so
    the batches of an epoch are others in the next.
    """
    pool = size * max(1, min(len(items) // (4 * size), 50))
    ordered: list[int] = []
    for start in range(0, len(items), pool):
        ordered += sorted(items[start : start + pool], key=lambda item: lengths[item])

    full = len(items) // size
    found: list[int] = []
    for number in torch.randperm(full, generator=generator).tolist():
        found += ordered[number * size : (number + 1) * size]
    return found + ordered[full * size :]


class PairedExamples(TypedDict):
    """One forget example and its retain partners."""

    forget: list[Example]
    retain: list[Example]


class ForgetRetainDataset(Dataset[PairedExamples]):
    """Examples by indices, as :class:`PairSampler` draws them."""

    def __init__(self, forget: Sequence[Example], retain: Sequence[Example]) -> None:
        self.forget, self.retain = forget, retain

    def __getitem__(self, pair: Pair) -> PairedExamples:
        index, partners = pair
        return {"forget": [self.forget[index]], "retain": [self.retain[partner] for partner in partners]}

    def __len__(self) -> int:
        return len(self.forget)


def collate_pairs(
    pairs: Sequence[PairedExamples], pad_token_id: int, at_once: int | None = None
) -> dict[str, list[Batch]]:
    """``{"forget": batches, "retain": batches}``, each batch padded to its own longest example, its labels located.

    Args:
        pairs: of one backward pass on the forget side.
        pad_token_id: what rows are filled up with.
        at_once: most examples a batch may have; by default a side is one batch. Gradients of a side are a sum over its
            batches, so that its size costs no memory.
    """
    forget = chain.from_iterable(pair["forget"] for pair in pairs)
    retain = chain.from_iterable(pair["retain"] for pair in pairs)
    sides = {"forget": list(forget), "retain": list(retain)}
    return {side: collate_side(examples, pad_token_id, at_once) for side, examples in sides.items()}


def collate_side(examples: list[Example], pad_token_id: int, at_once: int | None = None) -> list[Batch]:
    """One side of :func:`collate_pairs`."""
    batches = [collate(some, pad_token_id) for some in _in_batches(examples, at_once or len(examples))]
    return [locate_supervised(batch) for batch in batches]


def _in_batches(examples: list[Example], at_once: int) -> Iterator[list[Example]]:
    """Several batches are of similar length each, which saves padding, and the longest come first: what they leave of
    memory is enough for the others."""
    if len(examples) > at_once:
        examples = sorted(examples, key=lambda example: -len(example["input_ids"]))
    for start in range(0, len(examples), at_once):
        yield examples[start : start + at_once]
