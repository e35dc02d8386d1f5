"""Continuation of prompts, greedy or sampled, without rows that are already done."""

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gru_unlearn.common.modules import positions
from gru_unlearn.data import Encoder
from gru_unlearn.data.model_room import require_room
from gru_unlearn.evaluation.next_token import ReaderType, reader_for
from gru_unlearn.evaluation.table import Entry
from gru_unlearn.evaluation.tasks import Task

MORE_ON_CPU = 4
"""Times as many prompts as rows that are scored at once: a processor reads all weights for each token, however many
prompts there are, and a prompt holds the logits of one position, where a scored row holds those of all. A GPU, whose
memory is soon full, keeps to the rows."""


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


def prompts_at_once(model: nn.Module, batch_size: int) -> int:
    """How many prompts are continued together, where so many rows are scored together."""
    on_cpu = next(model.parameters()).device.type == "cpu"
    return batch_size * MORE_ON_CPU if on_cpu else batch_size


def continue_prompts(
    model: nn.Module, encoder: Encoder, tasks: Sequence[Task], entries: Mapping[int, Entry], batch_size: int
) -> Iterator[tuple[list[int], str]]:
    """Continue every distinct opening of the tasks that want it, once.

    Where the scored answers tell how the greedy continuation begins, it goes on from there.

    Args:
        batch_size: rows that are scored at once, see :func:`prompts_at_once`.

    Yields:
        The indices of the tasks with a prompt, and its continuation.
    """
    pad, stop = encoder.tokenizer.pad_token_id, stop_tokens(model, encoder)
    pending = _wanted_continuations(tasks, entries, stop, positions(model))
    pending.sort(key=lambda one: -len(one.prompt) - len(one.tokens))
    at_once = prompts_at_once(model, batch_size)
    reader: ReaderType | None = None
    while pending:
        going = []
        for one in pending:
            if one.has_ended(stop):
                yield one.numbers, decoded(one.tokens, encoder, one.cut_at)
            else:
                going.append(one)

        batch, pending = going[:at_once], going[at_once:]
        if not batch:
            return
        reader = reader or reader_for(model, [[*one.prompt, *one.tokens] for one in going], pad)
        leave = len(batch) // 8 if pending else 0  # a batch's last few go on together with those of the next ones
        texts = [[*one.prompt, *one.tokens] for one in batch]
        room = [one.limit - len(one.tokens) for one in batch]
        new = generate(model, texts, room, stop, pad, leave=leave, reader=reader)
        for one, tokens in zip(batch, new, strict=True):
            one.tokens += tokens
        pending += batch


def _wanted_continuations(
    tasks: Sequence[Task], entries: Mapping[int, Entry], stop: Set[int], most: int | None
) -> list[Continuation]:
    """One for each distinct opening of the tasks that want any; the two have at most ``most`` tokens."""
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
        batch_size: rows that are scored at once, see :func:`prompts_at_once`; changes rounding alone.

    Raises:
        UserError: the model has no room for a prompt.
    """
    texts = [""] * len(prompts)
    for number, tokens in continued(model, encoder, prompts, limits, batch_size, temperature=temperature, draws=draws):
        texts[number] = decoded(tokens, encoder)
    return texts


def continued(
    model: nn.Module,
    encoder: Encoder,
    prompts: Sequence[Sequence[int]],
    limits: Sequence[int],
    batch_size: int,
    *,
    temperature: float = 1.0,
    draws: Sequence[Sequence[float]] | None = None,
) -> Iterator[tuple[int, list[int]]]:
    """:func:`continuations` as tokens, batch after batch, each with its prompt's number; the longest prompts first.

    One that ends with a token of :func:`stop_tokens` is whole.
    """
    require_room(model, {"prompts": prompts}, encoder.tokenizer)
    pad, stop, most = encoder.tokenizer.pad_token_id, stop_tokens(model, encoder), positions(model)
    reader = reader_for(model, prompts, pad) if prompts else None
    longest_first = sorted(range(len(prompts)), key=lambda number: -len(prompts[number]))
    at_once = prompts_at_once(model, batch_size)
    for start in range(0, len(prompts), at_once):
        batch = longest_first[start : start + at_once]
        begun = [prompts[number] for number in batch]
        room = [_within(most, prompts[number], limits[number]) for number in batch]
        own = None if draws is None else [draws[number] for number in batch]
        new = generate(model, begun, room, stop, pad, temperature=temperature, draws=own, reader=reader)
        yield from zip(batch, new, strict=True)


def _within(most: int | None, prompt: Sequence[int], limit: int) -> int:
    """So many new tokens, or as many as the model has positions for."""
    if most is None:
        return limit
    return max(0, min(limit, most - len(prompt)))


def _known_starts(tasks: Sequence[Task], entries: Mapping[int, Entry]) -> dict[tuple[int, ...], list[int]]:
    """Opening → the beginning of its greedy continuation, as far as the scores tell.

    Where the most probable tokens are those of a scored answer, that answer is how generation begins.
    """
    starts: dict[tuple[int, ...], list[int]] = {}
    for number, task in enumerate(tasks):
        begin = len(task.opening)
        hits = entries[number].hits[begin - task.start :]
        right = len(hits) if hits.all() else int(hits.argmin())
        if right > len(starts.get(task.opening, [])):
            starts[task.opening] = task.ids[begin : begin + right]
    return starts


def decoded(tokens: Sequence[int], encoder: Encoder, cut_at: str = "") -> str:
    """The text of a continuation, up to the end of its turn."""
    text = str(encoder.tokenizer.decode(list(tokens), skip_special_tokens=True)).strip()
    for end in filter(None, (encoder.end_of_turn, cut_at)):  # an end of turn may be many tokens, or no special one
        text = text.partition(end)[0].strip()
    return text


def _until(stop: Collection[int], tokens: list[int]) -> list[int]:
    """The tokens up to and with the first stop token."""
    ends = (place for place, token in enumerate(tokens, start=1) if token in stop)
    return tokens[: next(ends, None)]


def stop_tokens(model: nn.Module, encoder: Encoder) -> set[int]:
    """What a continuation ends with."""
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    own = configured if isinstance(configured, list) else [configured]
    return {*encoder.stop_tokens, *(token for token in own if token is not None)}


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
    reader: ReaderType | None = None,
) -> list[list[int]]:
    """The most probable next token, or one drawn at random, again and again.

    Args:
        model: causal language model of transformers, in evaluation mode.
        prompts: one batch of token ids, none empty.
        limits: for each prompt, the most tokens to add.
        stop: end-of-sequence tokens; a continuation ends with the first of them.
        pad_token_id: any token.
        leave: return as soon as no more than this many prompts are unfinished.
        temperature: what logits are divided by before a token is drawn.
        draws: for each prompt as many numbers from [0, 1) as its limit; each decides one token, uniform ones sample
            from the model. None: the most probable token.
        reader: the way to the next token's logits; tried out on these prompts unless given.

    Returns:
        For each prompt the new tokens.
    """
    if not prompts:
        return []
    texts = (reader or reader_for(model, prompts, pad_token_id))(model, prompts, pad_token_id)
    new: list[list[int]] = [[] for _ in prompts]
    alive = list(range(len(prompts)))
    while len(alive) > leave:
        logits = texts.logits()
        if draws is None:
            tokens = logits.argmax(dim=-1)
        else:
            tokens = _token_at(logits / temperature, [draws[row][len(new[row])] for row in alive])

        going = []
        for place, (row, token) in enumerate(zip(alive, tokens.tolist(), strict=True)):
            new[row].append(token)
            if token not in stop and len(new[row]) < limits[row]:
                going.append(place)

        alive = [alive[place] for place in going]
        if len(alive) > leave:
            texts.go_on(going, tokens)
    return new


def _token_at(logits: Tensor, draws: Sequence[float]) -> Tensor:
    """The token of each row whose stretch of the cumulative distribution holds the row's number: [B].

    In float64: over a large vocabulary float32 would round the distribution's tail away.
    """
    cumulative = logits.double().softmax(dim=-1).cumsum(dim=-1)
    points = torch.tensor(draws, dtype=torch.float64, device=logits.device)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, points, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
