"""From a model and a suite to the score table: every distinct answer is scored once, every prompt continued once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gru_unlearn.data import Encoder
from gru_unlearn.evaluation.generation import continue_prompts, input_embeddings
from gru_unlearn.evaluation.gradnorm import task_gradient_norms
from gru_unlearn.evaluation.plan import Task, plan
from gru_unlearn.evaluation.rows import Suite
from gru_unlearn.evaluation.table import Entry, ScoreTable
from gru_unlearn.evaluation.tree import TokenTree, token_tree, tree_inputs
from gru_unlearn.objectives.token_logps import _head_only_at

Progress = Callable[[str, int, int], None]
"""Called with the stage (score, generate, gradnorm), how much of it is done, and how much there is."""

LOGITS_AT_ONCE = 512
"""Rows of logits whose statistics are taken together: small enough for a processor's cache."""


class Scores(NamedTuple):
    """The scores of one answer, each ``[n]``; see :class:`gru_unlearn.evaluation.table.Entry`."""

    logps: npt.NDArray[np.float32]
    hits: npt.NDArray[np.bool_]
    mu: npt.NDArray[np.float32]
    sigma: npt.NDArray[np.float32]


def score(
    model: nn.Module,
    encoder: Encoder,
    suite: Suite,
    *,
    retain_model: bool = False,
    batch_size: int = 32,
    share_prefixes: bool = True,
    on_progress: Progress | None = None,
) -> ScoreTable:
    """Score what a suite's metrics need, once.

    Args:
        model: causal language model of transformers, on any device, in any floating-point type.
        encoder: of the model's tokenizer.
        suite: rows and metrics.
        retain_model: score only what the metrics need of a retain model's table.
        batch_size: most answers in a forward pass, or prompts in generation.
        share_prefixes: evaluate what answers to one prompt have in common once (see :mod:`tree`); exact up to rounding.
        on_progress: see :data:`Progress`.

    Raises:
        UserError: an answer does not fit the encoder's length limit.
    """
    tasks = plan(suite, suite.needs(retain_model), encoder)
    pad = encoder.tokenizer.pad_token_id
    report = on_progress or (lambda stage, done, total: None)
    prompts, norms = sum(task.max_new_tokens > 0 for task in tasks), sum(task.gradnorm for task in tasks)
    entries: dict[int, Entry] = {}
    with _evaluating(model):
        for number, scores in _score_answers(model, tasks, batch_size, share_prefixes, pad):
            entries[number] = _entry(tasks[number], scores, encoder)
            report("score", len(entries), len(tasks))
        done = 0
        for numbers, text in continue_prompts(model, encoder, tasks, entries, batch_size):
            for number in numbers:
                entries[number].generation = text
            report("generate", done := done + len(numbers), prompts)
        found = task_gradient_norms(model, tasks, entries, batch_size, pad)
        for done, (number, norm) in enumerate(found, start=1):
            entries[number].gradnorm = norm
            report("gradnorm", done, norms)
    return ScoreTable([entries[number] for number in range(len(tasks))])


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, dropout is off."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _entry(task: Task, scores: Scores, encoder: Encoder) -> Entry:
    closed = task.ids[-1] == encoder.tokenizer.eos_token_id
    return Entry(task.record.prompt, task.record.answer, *scores, closed=closed, uses=task.uses)


@torch.no_grad()
def _score_answers(
    model: nn.Module, tasks: Sequence[Task], batch_size: int, share: bool, pad_token_id: int
) -> Iterator[tuple[int, Scores]]:
    """(index in ``tasks``, scores), in no particular order."""
    groups = _by_prompt(tasks, batch_size) if share else [[number] for number in range(len(tasks))]
    planted = [(token_tree([tasks[number].ids[:-1] for number in group]), group) for group in groups]
    planted.sort(key=lambda pair: len(pair[0].tokens), reverse=True)  # the largest batch first: it fails early or never
    for batch in _batches(planted, batch_size):
        trees, members = zip(*batch, strict=True)
        yield from zip(
            [number for group in members for number in group],
            _score_trees(model, trees, [[tasks[number] for number in group] for group in members], pad_token_id),
            strict=True,
        )


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
    with _head_only_at(model, predicts):
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
