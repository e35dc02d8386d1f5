"""Continuation of prompts, greedy or sampled, with a key-value cache and without rows that are already done."""

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gru_unlearn.common.modules import input_embeddings, positions
from gru_unlearn.data import Encoder
from gru_unlearn.evaluation.table import Entry
from gru_unlearn.evaluation.tasks import Task
from gru_unlearn.objectives.token_logps import head_only_at


@dataclass(slots=True)
class Continuation:
    """A distinct prompt, and its continuation as far as it is known."""

    prompt: tuple[int, ...]
    numbers: list[int]
    """the tasks with this prompt"""
    tokens: list[int]
    limit: int
    cut_at: str

    def has_ended(self, stop: Set[int]) -> bool:
        """Whether the limit or an end-of-sequence token is reached."""
        return len(self.tokens) == self.limit or not stop.isdisjoint(self.tokens[-1:])


def continue_prompts(
    model: nn.Module, encoder: Encoder, tasks: Sequence[Task], entries: Mapping[int, Entry], batch_size: int
) -> Iterator[tuple[list[int], str]]:
    """Continue every distinct prompt of the tasks that want it, once.

    Where the scored answers tell how the greedy continuation begins, it goes on from there.

    Yields:
        The indices of the tasks with a prompt, and its continuation.
    """
    pad, stop = encoder.tokenizer.pad_token_id, _stop_tokens(model, encoder)
    pending = _wanted_continuations(tasks, entries, stop, positions(model))
    pending.sort(key=lambda one: -len(one.prompt) - len(one.tokens))
    while pending:
        going = []
        for one in pending:
            if one.has_ended(stop):
                yield one.numbers, _decoded(one.tokens, encoder, one.cut_at)
            else:
                going.append(one)

        batch, pending = going[:batch_size], going[batch_size:]
        leave = len(batch) // 8 if pending else 0  # a batch's last few go on together with those of the next ones
        texts = [[*one.prompt, *one.tokens] for one in batch]
        room = [one.limit - len(one.tokens) for one in batch]
        new = generate(model, texts, room, stop, pad, leave=leave)
        for one, tokens in zip(batch, new, strict=True):
            one.tokens += tokens
        pending += batch


def _wanted_continuations(
    tasks: Sequence[Task], entries: Mapping[int, Entry], stop: Set[int], most: int | None
) -> list[Continuation]:
    """One for each distinct prompt of the tasks that want any; prompt and continuation have at most ``most`` tokens."""
    asking: dict[tuple[int, ...], list[int]] = {}
    for number, task in enumerate(tasks):
        if task.max_new_tokens:
            asking.setdefault(task.opening, []).append(number)

    known = _known_starts(tasks, entries)
    wanted = []
    for prompt, numbers in asking.items():
        limit = _within(most, prompt, max(tasks[number].max_new_tokens for number in numbers))
        tokens = _until(stop, known.get(prompt, []))[:limit]
        wanted.append(Continuation(prompt, numbers, tokens, limit, tasks[numbers[0]].cut_at))
    return wanted


def continuations(
    model: nn.Module,
    encoder: Encoder,
    prompts: Sequence[Sequence[int]],
    limits: Sequence[int],
    batch_size: int,
    *,
    temperature: float = 1.0,
    draws: Sequence[Sequence[float]] | None = None,
) -> list[str]:
    """What a model says after each prompt.

    Args:
        model: causal language model of transformers, in evaluation mode.
        encoder: of the model's tokenizer.
        prompts: token ids, none empty, such as :meth:`Encoder.prompt_ids`.
        limits, temperature, draws: as in :func:`generate`; with the same draws a prompt goes on alike in any batch.
        batch_size: prompts at once; changes rounding alone.
    """
    pad, stop, most = encoder.tokenizer.pad_token_id, _stop_tokens(model, encoder), positions(model)
    texts = [""] * len(prompts)
    longest_first = sorted(range(len(prompts)), key=lambda number: -len(prompts[number]))
    for start in range(0, len(prompts), batch_size):
        batch = longest_first[start : start + batch_size]
        begun = [prompts[number] for number in batch]
        room = [_within(most, prompts[number], limits[number]) for number in batch]
        own = None if draws is None else [draws[number] for number in batch]
        new = generate(model, begun, room, stop, pad, temperature=temperature, draws=own)
        for number, tokens in zip(batch, new, strict=True):
            texts[number] = _decoded(tokens, encoder, "")
    return texts


def _within(most: int | None, prompt: Sequence[int], limit: int) -> int:
    """So many new tokens, or as many as the model has positions for."""
    if most is None:
        return limit
    return max(0, min(limit, most - len(prompt)))


def _known_starts(tasks: Sequence[Task], entries: Mapping[int, Entry]) -> dict[tuple[int, ...], list[int]]:
    """Prompt → the beginning of its greedy continuation, as far as the scores tell.

    Where the most probable tokens are those of a scored answer, that answer is how generation begins.
    """
    starts: dict[tuple[int, ...], list[int]] = {}
    for number, task in enumerate(tasks):
        hits = entries[number].hits
        right = len(hits) if hits.all() else int(hits.argmin())
        if right > len(starts.get(task.prompt, [])):
            starts[task.prompt] = task.answer[:right]
    return starts


def _decoded(tokens: list[int], encoder: Encoder, cut_at: str) -> str:
    text = str(encoder.tokenizer.decode(tokens, skip_special_tokens=True)).strip()
    if not cut_at:
        return text
    return text.partition(cut_at)[0].strip()


def _until(stop: Collection[int], tokens: list[int]) -> list[int]:
    """The tokens up to and with the first stop token."""
    ends = (place for place, token in enumerate(tokens, start=1) if token in stop)
    return tokens[: next(ends, None)]


def _stop_tokens(model: nn.Module, encoder: Encoder) -> set[int]:
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    own = configured if isinstance(configured, list) else [configured]
    return {encoder.tokenizer.eos_token_id, *(token for token in own if token is not None)}


@torch.no_grad()
def generate(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    limits: Sequence[int],
    stop: Collection[int],
    pad_token_id: int,
    *,
    leave: int = 0,
    temperature: float = 1.0,
    draws: Sequence[Sequence[float]] | None = None,
) -> list[list[int]]:
    """The most probable next token, or one drawn at random, again and again.

    Args:
        model: causal language model of transformers, in evaluation mode.
        prompts: one batch of token ids, none empty; padded on the left to the longest.
        limits: for each prompt, the most tokens to add.
        stop: end-of-sequence tokens; a continuation ends with the first of them.
        pad_token_id: any token.
        leave: return as soon as no more than this many prompts are unfinished.
        temperature: what logits are divided by before a token is drawn.
        draws: for each prompt as many numbers from [0, 1) as its limit; each decides one token, uniform ones sample
            from the model. None: the most probable token.

    Returns:
        For each prompt the new tokens.
    """
    if not prompts:
        return []
    device = input_embeddings(model).device
    ids, mask = _pad_left(prompts, pad_token_id, device)
    new: list[list[int]] = [[] for _ in prompts]
    alive = list(range(len(prompts)))
    cache: Any = None
    while len(alive) > leave:
        logits, cache = _logits_of_next(model, ids, mask, cache)
        if draws is None:
            tokens = logits.argmax(dim=-1)
        else:
            tokens = _token_at(logits / temperature, [draws[row][len(new[row])] for row in alive])

        going = []
        for place, (row, token) in enumerate(zip(alive, tokens.tolist(), strict=True)):
            new[row].append(token)
            if token not in stop and len(new[row]) < limits[row]:
                going.append(place)

        if len(going) < len(alive):
            kept = torch.tensor(going, dtype=torch.long, device=device)
            alive, tokens, mask = [alive[place] for place in going], tokens[kept], mask[kept]
            if len(alive) > leave:
                cache.batch_select_indices(kept)
        ids = tokens[:, None]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
    return new


def _logits_of_next(model: nn.Module, ids: Tensor, mask: Tensor, cache: Any) -> tuple[Tensor, Any]:
    """Logits of each row's next token, [B, V], and the key-value cache with ``ids`` in it.

    Args:
        ids: [B, L], what follows on what the cache holds.
        mask: [B, N], which tokens are no padding; those of the cache too.
        cache: of the tokens before; None at the beginning.
    """
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    last = torch.zeros(ids.shape, dtype=torch.bool, device=ids.device)
    last[:, -1] = True
    with head_only_at(model, last):
        output = model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
    return output.logits[0], output.past_key_values


def _token_at(logits: Tensor, draws: Sequence[float]) -> Tensor:
    """The token of each row whose stretch of the cumulative distribution holds the row's number: [B].

    In float64: over a large vocabulary float32 would round the distribution's tail away.
    """
    cumulative = logits.double().softmax(dim=-1).cumsum(dim=-1)
    points = torch.tensor(draws, dtype=torch.float64, device=logits.device)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, points, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)


def _pad_left(prompts: Sequence[Sequence[int]], pad_token_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """``input_ids`` and ``attention_mask``, [B, L]."""
    length = max(map(len, prompts))
    ids = torch.tensor([[pad_token_id] * (length - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    return ids, (torch.arange(length, device=device) >= length - lengths[:, None]).long()
