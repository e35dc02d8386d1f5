"""From a model and a suite to the score table: every distinct answer is scored once, every prompt continued once."""

from collections.abc import Callable, Sequence
from typing import Any

import torch.distributed as dist
from torch import nn

from gru_unlearn.common.modules import evaluating
from gru_unlearn.data import Encoder
from gru_unlearn.data.model_room import require_room
from gru_unlearn.evaluation.answers import score_answers
from gru_unlearn.evaluation.generation import continue_prompts, decoded
from gru_unlearn.evaluation.gradnorm import task_gradient_norms
from gru_unlearn.evaluation.measure import Evaluation, measure
from gru_unlearn.evaluation.rows import Suite
from gru_unlearn.evaluation.table import Entry, ScoreTable
from gru_unlearn.evaluation.tasks import Task, ids_by_set, plan_tasks
from gru_unlearn.objectives.causality import require_causal, require_causal_config

Progress = Callable[[str, int, int], None]
"""Called with the stage (score, generate, gradnorm), how much of it is done, and how much there is."""


def evaluate(
    model: nn.Module,
    encoder: Encoder,
    suite: Suite,
    *,
    retain_table: ScoreTable | None = None,
    batch_size: int = 32,
    share_prefixes: bool = True,
    across_processes: bool = False,
    on_progress: Progress | None = None,
) -> Evaluation:
    """Score what a suite needs, once, and read all its metrics off the scores.

    Args:
        model, encoder, suite, batch_size, share_prefixes, across_processes, on_progress: as in :func:`score`.
        retain_table: scores of a model trained without the forget set: ``score(retain, encoder, suite,
            retain_model=True)``. Without it the metrics that compare with it are listed as missing.

    Returns:
        A key in ``metrics`` for each metric of the suite; one without a value is in ``missing``, with the reason.

    Raises:
        UserError: an answer does not fit the encoder's length limit, or the model's positions or embeddings.
    """
    table = score(
        model,
        encoder,
        suite,
        batch_size=batch_size,
        share_prefixes=share_prefixes,
        across_processes=across_processes,
        on_progress=on_progress,
    )
    return measure(suite.metrics, table, retain_table, suite.impossible)


def score(
    model: nn.Module,
    encoder: Encoder,
    suite: Suite,
    *,
    retain_model: bool = False,
    batch_size: int = 32,
    share_prefixes: bool = True,
    across_processes: bool = False,
    on_progress: Progress | None = None,
) -> ScoreTable:
    """Score what a suite's metrics need, once.

    Args:
        model: causal language model of transformers, on any device, in any floating-point type.
        encoder: of the model's tokenizer.
        suite: rows and metrics, such as :func:`gru_unlearn.evaluation.suites.tofu`.
        retain_model: score only what the metrics need of a retain model's table.
        batch_size: most answers in a forward pass, or prompts in generation.
        share_prefixes: evaluate what answers to one prompt have in common once (see :mod:`tree`), where the model can;
            exact up to rounding.
        across_processes: divide the prompts among the processes of torch.distributed, all of which must make this
            call; each gets the whole table.
        on_progress: see :data:`Progress`.

    Raises:
        UserError: an answer does not fit the encoder's length limit, or the model's positions or embeddings.
    """
    require_causal_config(getattr(model, "config", None), "the model")
    tasks = plan_tasks(suite, suite.needs(retain_model), encoder)
    require_room(model, ids_by_set(tasks), encoder.tokenizer)
    require_causal(model, max((task.ids for task in tasks), key=len, default=[]))
    mine: Sequence[int] = range(len(tasks))
    if across_processes:
        mine = _share_of_process(model, tasks)
    with evaluating(model):
        own = [tasks[number] for number in mine]
        scored = _score_tasks(model, encoder, own, batch_size, share_prefixes, on_progress)
    entries = dict(zip(mine, scored, strict=True))
    if len(entries) < len(tasks):
        entries = _gathered(entries)
    return ScoreTable([entries[number] for number in range(len(tasks))])


def _score_tasks(
    model: nn.Module,
    encoder: Encoder,
    tasks: Sequence[Task],
    batch_size: int,
    share_prefixes: bool,
    on_progress: Progress | None,
) -> list[Entry]:
    """Each task's entry: answers, then generations, then gradient norms."""
    pad = encoder.tokenizer.pad_token_id
    report = on_progress or (lambda stage, done, total: None)
    prompts = sum(task.max_new_tokens > 0 for task in tasks)
    norms = sum(task.gradnorm for task in tasks)

    entries: dict[int, Entry] = {}
    report("score", 0, len(tasks))
    for number, scores in score_answers(model, tasks, batch_size, share_prefixes, pad):
        task = tasks[number]
        record = task.record
        entries[number] = Entry(record.prompt, record.answer, *scores, closing=task.closing, uses=task.uses)
        if task.given:
            entries[number].prompt = decoded(task.opening, encoder)
            entries[number].continuation = decoded(task.due, encoder)
        report("score", len(entries), len(tasks))

    done = 0
    for numbers, text in continue_prompts(model, encoder, tasks, entries, batch_size):
        for number in numbers:
            entries[number].generation = text
        done += len(numbers)
        report("generate", done, prompts)

    for done, (number, norm) in enumerate(task_gradient_norms(model, tasks, entries, batch_size, pad), start=1):
        entries[number].gradnorm = norm
        report("gradnorm", done, norms)
    return [entries[number] for number in range(len(tasks))]


def _share_of_process(model: nn.Module, tasks: Sequence[Task]) -> Sequence[int]:
    """The tasks that this process scores: those of every n-th prompt where n processes each hold the whole model.

    A model that is itself spread over the processes (FSDP2) needs them in step: there each scores everything.
    """
    from torch.distributed.tensor import DTensor  # noqa: PLC0415 - slow to import

    if any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        return range(len(tasks))
    prompts = dict.fromkeys(task.opening for task in tasks)
    process = {prompt: number % dist.get_world_size() for number, prompt in enumerate(prompts)}
    return [number for number, task in enumerate(tasks) if process[task.opening] == dist.get_rank()]


def _gathered(entries: dict[int, Entry]) -> dict[int, Entry]:
    """The entries of all processes, in each of them."""
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, entries)
    together: dict[int, Entry] = {}
    for part in parts:
        together |= part
    return together
