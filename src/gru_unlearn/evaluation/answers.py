"""The log-probabilities of answers under a model: token trees, with logits only where an answer is predicted."""

import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gru_unlearn.common.modules import input_embeddings
from gru_unlearn.evaluation.tasks import Task
from gru_unlearn.evaluation.tree import TokenTree, token_tree, tree_inputs
from gru_unlearn.objectives.token_logps import head_only_at

LOGGER = logging.getLogger(__name__)

LOGITS_AT_ONCE = 512
"""Rows of logits whose statistics are taken together: small enough for a processor's cache."""


class Scores(NamedTuple):
    """The scores of one answer, each ``[n]``; see :class:`gru_unlearn.evaluation.table.Entry`."""

    logps: npt.NDArray[np.float32]
    hits: npt.NDArray[np.bool_]
    mu: npt.NDArray[np.float32]
    sigma: npt.NDArray[np.float32]


@torch.no_grad()
def score_answers(
    model: nn.Module, tasks: Sequence[Task], batch_size: int, share: bool, pad_token_id: int
) -> Iterator[tuple[int, Scores]]:
    """(index in ``tasks``, scores), in no particular order."""
    groups = _by_prompt(tasks, batch_size)
    if not (share and _takes_trees(model, [[tasks[number] for number in group] for group in groups], pad_token_id)):
        groups = [[number] for number in range(len(tasks))]
    planted = [(token_tree([tasks[number].ids[:-1] for number in group]), group) for group in groups]
    planted.sort(key=lambda pair: len(pair[0].tokens), reverse=True)  # the largest batch first: it fails early or never
    for batch in _batches(planted, batch_size):
        trees, members = zip(*batch, strict=True)
        yield from zip(
            [number for group in members for number in group],
            _score_trees(model, trees, [[tasks[number] for number in group] for group in members], pad_token_id),
            strict=True,
        )


def _takes_trees(model: nn.Module, groups: Sequence[Sequence[Task]], pad_token_id: int) -> bool:
    """Whether a tree of tokens scores like its answers one by one: tried on the smallest group of several answers.

    Models without attention, with positions of their own making, or with a window of attention shorter than the
    answers do not pass, and are scored answer by answer.
    """
    several = [group for group in groups if len(group) > 1]
    longest = max((len(task.ids) for group in several for task in group), default=0)
    window = getattr(getattr(model, "config", None), "sliding_window", None)
    if not several or (window and longest > window):
        return False
    group = min(several, key=lambda group: sum(len(task.ids) for task in group))
    try:
        merged = list(_score_trees(model, [token_tree([task.ids[:-1] for task in group])], [group], pad_token_id))
    except (TypeError, ValueError, RuntimeError, IndexError) as reason:
        LOGGER.info("answers to one prompt are scored one by one: %s", reason)
        return False
    alone = [next(_score_trees(model, [token_tree([task.ids[:-1]])], [[task]], pad_token_id)) for task in group]
    error = np.mean([np.abs(one.logps - other.logps).mean() for one, other in zip(merged, alone, strict=True)])
    return bool(error < (1e-3 if input_embeddings(model).dtype == torch.float32 else 0.1))


def _by_prompt(tasks: Sequence[Task], at_most: int) -> list[list[int]]:
    """Indices of tasks with equal prompts, in groups of at most ``at_most``."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, task in enumerate(tasks):
        groups.setdefault(task.prompt, []).append(number)
    return [group[i : i + at_most] for group in groups.values() for i in range(0, len(group), at_most)]


def _batches(
    planted: Sequence[tuple[TokenTree, list[int]]], batch_size: int
) -> Iterator[list[tuple[TokenTree, list[int]]]]:
    """Consecutive trees with at most ``batch_size`` answers together."""
    batch: list[tuple[TokenTree, list[int]]] = []
    answers = 0
    for tree, group in planted:
        if batch and answers + len(group) > batch_size:
            yield batch
            batch, answers = [], 0
        batch.append((tree, group))
        answers += len(group)
    if batch:
        yield batch


def _score_trees(
    model: nn.Module, trees: Sequence[TokenTree], groups: Sequence[Sequence[Task]], pad_token_id: int
) -> Iterator[Scores]:
    """The scores of the groups' answers, one group after the other: one forward pass."""
    weight = input_embeddings(model)
    inputs = tree_inputs(trees, pad_token_id, weight.dtype)
    predicts = torch.zeros(inputs["input_ids"].shape, dtype=torch.bool)
    sources, targets, lengths = [], [], []
    for number, (tree, group) in enumerate(zip(trees, groups, strict=True)):
        for path, task in zip(tree.paths, group, strict=True):
            nodes = path[task.start - 1 :]
            predicts[number, nodes] = True
            sources += [number * predicts.shape[1] + node for node in nodes]
            targets += task.answer
            lengths.append(len(nodes))
    with head_only_at(model, predicts):
        logits = model(**{name: value.to(weight.device) for name, value in inputs.items()}, use_cache=False).logits[0]
    rows = (predicts.flatten().cumsum(dim=0) - 1)[torch.tensor(sources)]
    columns = token_scores(logits, rows.to(logits.device), torch.tensor(targets, device=logits.device)).cpu()
    for logps, hits, mu, sigma in zip(*(column.split(lengths) for column in columns), strict=True):
        yield Scores(logps.numpy(), hits.numpy().astype(bool), mu.numpy(), sigma.numpy())


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
