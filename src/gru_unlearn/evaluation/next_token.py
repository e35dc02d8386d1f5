"""Ways to the logits of the next token of several texts, and which of them a model allows.

With a cache every step costs one token; that needs a model that keeps one, and is not irritated by padding on the left.
Without one, everything is read anew at each step, padded on the right: slow, and right for whatever looks back only.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gru_unlearn.common.modules import input_embeddings, output_head, positions, trying
from gru_unlearn.objectives.token_logps import forward_at


class Reader(Protocol):
    """Texts as far as they go, side by side."""

    def logits(self) -> Tensor:
        """Of each text's next token: [B, V]."""

    def go_on(self, kept: Sequence[int], tokens: Tensor) -> None:
        """Keep some of the texts, by their places, and add a token to each: ``tokens`` [B] has one for every text."""


class CachedReader:
    """With a key-value cache.

    Args:
        model: causal language model of transformers, in evaluation mode.
        texts: token ids, none empty.
        pad_token_id: any token.
    """

    def __init__(self, model: nn.Module, texts: Sequence[Sequence[int]], pad_token_id: int) -> None:
        self.model = model
        self.device = input_embeddings(model).device
        length = max(map(len, texts))
        padded = [[pad_token_id] * (length - len(text)) + list(text) for text in texts]
        lengths = torch.tensor([len(text) for text in texts])
        self.ids = torch.tensor(padded).to(self.device)
        """[B, L], what the cache does not hold yet"""
        self.mask = (torch.arange(length) >= length - lengths[:, None]).long().to(self.device)
        """[B, N], which tokens are no padding; those of the cache too"""
        self.cache: Any = None

    def logits(self) -> Tensor:
        """Of each text's next token: [B, V]."""
        positions = (self.mask.cumsum(dim=1) - 1).clamp(min=0)[:, -self.ids.shape[1] :]
        last = torch.zeros(self.ids.shape, dtype=torch.bool, device=self.device)
        last[:, -1] = True
        inputs = {"input_ids": self.ids, "attention_mask": self.mask, "position_ids": positions}
        output = forward_at(self.model, last, **inputs, past_key_values=self.cache, use_cache=True)
        self.cache = output.past_key_values
        return output.logits[0]

    def go_on(self, kept: Sequence[int], tokens: Tensor) -> None:
        """Keep some of the texts and add a token to each."""
        if len(kept) < len(self.ids):
            places = torch.tensor(kept, dtype=torch.long, device=self.device)
            tokens, self.mask = tokens[places], self.mask[places]
            self.cache.batch_select_indices(places)
        self.ids = tokens[:, None]
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)


class PatientReader(CachedReader):
    """With a cache that no text can be taken out of, such as one of states: texts that have ended are read along."""

    def __init__(self, model: nn.Module, texts: Sequence[Sequence[int]], pad_token_id: int) -> None:
        super().__init__(model, texts, pad_token_id)
        self.places = list(range(len(texts)))
        """rows of those that go on"""

    def logits(self) -> Tensor:
        """Of each text's next token: [B, V]."""
        return super().logits()[self.places]

    def go_on(self, kept: Sequence[int], tokens: Tensor) -> None:
        """Keep some of the texts and add a token to each."""
        self.places = [self.places[place] for place in kept]
        column = self.ids[:, -1].clone()
        column[self.places] = tokens[list(kept)]
        super().go_on(range(len(column)), column)


class RereadingReader:
    """Without a cache. Arguments as of :class:`CachedReader`."""

    def __init__(self, model: nn.Module, texts: Sequence[Sequence[int]], pad_token_id: int) -> None:
        self.model, self.pad_token_id = model, pad_token_id
        self.texts = [list(text) for text in texts]

    def logits(self) -> Tensor:
        """Of each text's next token: [B, V]."""
        device = input_embeddings(self.model).device
        length = max(map(len, self.texts))
        padded = [text + [self.pad_token_id] * (length - len(text)) for text in self.texts]
        lengths = torch.tensor([len(text) for text in self.texts])[:, None]
        places = torch.arange(length)
        ids, mask, last = (
            part.to(device) for part in (torch.tensor(padded), (places < lengths).long(), places == lengths - 1)
        )
        return forward_at(self.model, last, input_ids=ids, attention_mask=mask, use_cache=False).logits[0]

    def go_on(self, kept: Sequence[int], tokens: Tensor) -> None:
        """Keep some of the texts and add a token to each."""
        chosen = tokens.tolist()
        self.texts = [[*self.texts[place], chosen[place]] for place in kept]


ROUNDED = 2
"""Spacings of the largest logits that rounding may put between two ways in 16 bits, on average over the tokens. On 30
layers in bfloat16 it was 0.2 to 0.7, seldom 1; where padding is not hidden 3 to 17, a cache that forgets 45."""

_KEPT = ([0, 1], [1], [0])
"""Which of two texts go on after each step of a trial: both, the second, and that again."""
_STEPS = len(_KEPT)

ReaderType = type[CachedReader] | type[RereadingReader]
"""A way; that of :class:`PatientReader` is among the first."""


@torch.no_grad()
def reader_for(model: nn.Module, texts: Sequence[Sequence[int]], pad_token_id: int) -> ReaderType:
    """The fastest way that goes on from texts such as these as the plain one does: tried for a few steps on the longest
    and the shortest, the latter of which goes on alone."""
    longest, shortest = max(texts, key=len), min(texts, key=len)
    if len(shortest) == len(longest):
        shortest = longest[len(longest) // 2 :]
    room = positions(model) or len(longest) + _STEPS
    both = [text[: room - _STEPS] for text in (longest, shortest)]
    for way in (CachedReader, PatientReader):
        with trying(f"{way.__name__} in generation"):
            cached, plain = way(model, both, pad_token_id), RereadingReader(model, both, pad_token_id)
            if all(_agree(cached, plain, kept) for kept in _KEPT):
                return way
    return RereadingReader


def _agree(one: Reader, other: RereadingReader, kept: Sequence[int]) -> bool:
    """Whether two readers expect the same of the next token, but for rounding; both then go on with it."""
    with _types_of_logits(other.model) as types:
        expected = other.logits()
    tokens = expected.argmax(dim=-1)
    errors = (one.logits().float().log_softmax(dim=-1) - expected.float().log_softmax(dim=-1)).abs()
    one.go_on(kept, tokens)
    other.go_on(kept, tokens)
    if types == {torch.float32}:
        return bool(errors.max() < 1e-3)
    spacing = max(torch.finfo(dtype).eps for dtype in types) * expected.abs().max()  # of the largest logits
    return bool(errors.mean() < (ROUNDED * spacing).clamp(min=0.1))


@contextmanager
def _types_of_logits(model: nn.Module) -> Iterator[set[torch.dtype]]:
    """Inside, the types of what the head gives are noted: under autocast another than that of the weights."""
    types: set[torch.dtype] = set()
    hook = output_head(model).register_forward_hook(lambda _head, _inputs, logits: types.add(logits.dtype))
    try:
        yield types
    finally:
        hook.remove()
    if not types:  # a head that is never called as a module
        types.add(input_embeddings(model).dtype)
