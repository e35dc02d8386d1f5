"""The log-probabilities of answers under a model: token trees, with logits only where an answer is predicted."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gru_unlearn.common.modules import input_embeddings, text_config, trying
from gru_unlearn.evaluation.table import TokenFloats
from gru_unlearn.evaluation.tasks import Task
from gru_unlearn.evaluation.tree import TokenTree, token_tree, tree_inputs
from gru_unlearn.objectives.token_logps import forward_at

LOGITS_AT_ONCE = 512
"""Rows of logits whose statistics are taken together: small enough for a processor's cache."""

_WINDOW = re.compile(r"(window|window_size|chunk_size|local_attention)$")
"""Names of settings under which architectures have their windows of attention."""


class Scores(NamedTuple):
    """The scores of one answer, each ``[n]``; see :class:`gru_unlearn.evaluation.table.Entry`."""

    logps: TokenFloats
    hits: npt.NDArray[np.bool_]
    mu: TokenFloats
    sigma: TokenFloats


@dataclass(frozen=True)
class AnswerGroup:
    """Answers to one prompt that are scored together."""

    numbers: list[int]
    """places of their tasks among all"""
    tasks: list[Task]

    @cached_property
    def tree(self) -> TokenTree:
        """Of all tokens but each answer's last, which predicts nothing."""
        return token_tree([task.ids[:-1] for task in self.tasks])

    @property
    def lengths(self) -> list[int]:
        """Tokens of prompt and answer, for each answer."""
        return [len(task.ids) for task in self.tasks]


@torch.no_grad()
def score_answers(
    model: nn.Module, tasks: Sequence[Task], batch_size: int, share: bool, pad_token_id: int
) -> Iterator[tuple[int, Scores]]:
    """(index in ``tasks``, scores), in no particular order."""
    groups = _by_prompt(tasks, batch_size)
    if not (share and _takes_trees(model, groups, pad_token_id)):
        groups = [AnswerGroup([number], [task]) for number, task in enumerate(tasks)]
    groups.sort(key=lambda group: len(group.tree.tokens), reverse=True)  # the largest first: it fails early or never
    for batch in _filled_batches(groups, batch_size):
        numbers = chain.from_iterable(group.numbers for group in batch)
        yield from zip(numbers, _score_groups(model, batch, pad_token_id), strict=True)


def _takes_trees(model: nn.Module, groups: Sequence[AnswerGroup], pad_token_id: int) -> bool:
    """Whether a tree of tokens scores like its answers one by one: tried on the group with the longest answer, and on
    that whose tokens stand farthest behind where they would stand alone.

    Models without attention, with positions of their own making, or with a window of attention shorter than the
    answers do not pass, and are scored answer by answer.
    """
    branching = [group for group in groups if not group.tree.is_chain]
    if not branching:
        return False
    longest = max(branching, key=lambda group: (max(group.lengths), group.tree.displacement))
    displaced = max(branching, key=lambda group: (group.tree.displacement, max(group.lengths)))
    tried = {id(group): group for group in (longest, displaced)}.values()
    if max(longest.lengths) > shortest_window(model):
        return False

    with trying("trees of answers"):
        return all(_scores_as_alone(model, group, pad_token_id) for group in tried)
    return False


def _scores_as_alone(model: nn.Module, group: AnswerGroup, pad_token_id: int) -> bool:
    """Whether answers of a group have together the log-probabilities that they have alone, but for rounding: looked at
    are the longest, and the one that stands farthest behind in the tree."""
    merged = list(_score_groups(model, [group], pad_token_id))
    places = range(len(group.tasks))
    looked_at = {max(places, key=group.lengths.__getitem__), max(places, key=lambda place: group.tree.paths[place][-1])}
    errors = []
    for place in looked_at:
        alone = next(_score_groups(model, [AnswerGroup([0], [group.tasks[place]])], pad_token_id))
        errors.append(np.abs(merged[place].logps - alone.logps))
    if input_embeddings(model).dtype == torch.float32:
        return bool(np.concatenate(errors).max() < 1e-3)
    return bool(np.concatenate(errors).mean() < 0.1)


def shortest_window(model: nn.Module) -> float:
    """The fewest tokens that a layer looks back on, by the configuration: the mask of a tree would reach beyond."""
    settings = getattr(text_config(model), "__dict__", {})
    sizes = [value for name, value in settings.items() if _WINDOW.search(name) and isinstance(value, int)]
    return min((size for size in sizes if size > 1), default=math.inf)  # no window is None, -1, or False


def _by_prompt(tasks: Sequence[Task], at_most: int) -> list[AnswerGroup]:
    """Tasks with equal prompts, in groups of at most ``at_most``."""
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for number, task in enumerate(tasks):
        by_prompt.setdefault(task.prompt, []).append(number)

    groups = []
    for numbers in by_prompt.values():
        for start in range(0, len(numbers), at_most):
            some = numbers[start : start + at_most]
            groups.append(AnswerGroup(some, [tasks[number] for number in some]))
    return groups


def _filled_batches(groups: Sequence[AnswerGroup], batch_size: int) -> Iterator[list[AnswerGroup]]:
    """Consecutive groups with at most ``batch_size`` answers together."""
    batch: list[AnswerGroup] = []
    answers = 0
    for group in groups:
        if batch and answers + len(group.tasks) > batch_size:
            yield batch
            batch, answers = [], 0
        batch.append(group)
        answers += len(group.tasks)
    if batch:
        yield batch


def _score_groups(model: nn.Module, groups: Sequence[AnswerGroup], pad_token_id: int) -> Iterator[Scores]:
    """The scores of the groups' answers, one group after the other: one forward pass."""
    weight = input_embeddings(model)
    inputs = tree_inputs([group.tree for group in groups], pad_token_id, weight.dtype)
    places, targets, lengths = _places_to_predict(groups, inputs["input_ids"].shape[1])
    predicts = torch.zeros(inputs["input_ids"].shape, dtype=torch.bool)
    predicts.view(-1)[places] = True  # a place from which several answers go on counts once

    arguments = {name: value.to(weight.device) for name, value in inputs.items()}
    logits = forward_at(model, predicts, **arguments, use_cache=False).logits[0]
    rows = (predicts.flatten().cumsum(dim=0) - 1)[places]
    columns = token_scores(logits, rows.to(logits.device), targets.to(logits.device)).cpu()

    by_answer = [column.split(lengths) for column in columns]
    for logps, hits, mu, sigma in zip(*by_answer, strict=True):
        yield Scores(logps.numpy(), hits.numpy().astype(bool), mu.numpy(), sigma.numpy())


def _places_to_predict(groups: Sequence[AnswerGroup], width: int) -> tuple[Tensor, Tensor, list[int]]:
    """Where in a flattened batch [B * width] each answer token is predicted, that token, and each answer's length."""
    places, targets, lengths = [], [], []
    for row, group in enumerate(groups):
        for path, task in zip(group.tree.paths, group.tasks, strict=True):
            nodes = path[task.start - 1 :]
            places += [row * width + node for node in nodes]
            targets += task.answer
            lengths.append(len(nodes))
    return torch.tensor(places), torch.tensor(targets), lengths


def token_scores(logits: Tensor, rows: Tensor, tokens: Tensor) -> Tensor:
    """Log-probability, argmax hit, μ and σ of M tokens: [4, M], float32.

    μ and σ are mean and standard deviation of log p over the vocabulary, under p. Moments are taken of the distance
    to the largest logit, where a sure model's tiny σ does not drown in rounding.

    Args:
        logits: [N, V].
        rows: [M], which row of the logits predicts each token.
        tokens: [M].
    """
    parts = []
    for chunk in logits.split(LOGITS_AT_ONCE):
        top, best = chunk.float().max(dim=-1)
        below = chunk.float() - top[:, None]
        weights = below.exp()
        total = weights.sum(dim=-1)
        first = torch.linalg.vecdot(weights, below) / total
        second = torch.linalg.vecdot(weights.mul_(below), below) / total
        parts.append(torch.stack([top + total.log(), best.float(), first - total.log(), second - first.square()]))
    log_z, best, mu, variance = torch.cat(parts, dim=1)[:, rows]
    logps = logits[rows, tokens].float() - log_z
    return torch.stack([logps, (best == tokens).float(), mu, variance.clamp(min=0).sqrt()])
