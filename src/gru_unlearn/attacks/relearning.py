"""Relearning: how fast does knowledge come back when the model is trained on a little of it, or beside it?

A model that never had the knowledge cannot get it back from other rows; one that only hides it often does
(Hu et al., arXiv 2406.13356; Lynch et al., arXiv 2402.16835).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from random import Random

import torch
from torch import nn

from gru_unlearn.attacks.battery import Battery
from gru_unlearn.attacks.probing import PROBABILITY, Probed, Trial, Variants, probe
from gru_unlearn.common.words import words
from gru_unlearn.data import Example, Record
from gru_unlearn.data.model_room import ids_of, require_room
from gru_unlearn.errors import NonFiniteError
from gru_unlearn.evaluation import Missing
from gru_unlearn.models.subject import Subject
from gru_unlearn.results.row_kinds import FORGET
from gru_unlearn.training.fine_tuning import FineTuning, in_turn

RELEARNED = 4
"""One forget row in so many is trained on; the answers to the others are what may come back."""

BATCH_SIZE = 8
CLIP = 1.0
POINTS = 6
"""How often a curve is measured, beside its beginning."""


def relearning(battery: Battery) -> Variants:
    """Training on a few forget rows, on related rows and on unrelated ones; measured on the other forget rows."""
    count = len(battery.forget)
    if count < 2:
        return {"forget rows": "needs at least two forget rows"}
    few = sorted(Random(battery.request.seed).sample(range(count), max(1, count // RELEARNED)))
    others = [place for place in range(count) if place not in few]
    measured = [battery.forget[place] for place in others]
    training = {
        "forget rows": [battery.forget[place] for place in few],
        "related rows": nearest(measured, battery.kept("retain", "held_out"), count),
        "unrelated rows": battery.sample(battery.sets["unrelated"], count),
    }
    variants: dict[str, Trial | str] = {}
    for name, rows in training.items():
        variants[name] = partial(_relearn, battery, rows, others) if rows else "needs retain or held-out rows"
    return variants


def nearest(rows: Sequence[Record], pool: Sequence[Record], count: int) -> list[Record]:
    """The rows of a pool that share most words with given ones: for each of ``rows`` in turn the nearest one left.

    Nearness is the Jaccard index of the two sets of words, questions and answers together, without case; of equally
    near rows the first in the pool.
    """
    wanted = [_words_of(record) for record in rows]
    left = {place: _words_of(record) for place, record in enumerate(pool)}
    taken = []
    for number in range(min(count, len(pool))):
        its = wanted[number % len(wanted)]
        place = max(left, key=lambda place: len(its & left[place]) / len(its | left[place]))
        del left[place]
        taken.append(pool[place])
    return taken


def _words_of(record: Record) -> frozenset[str]:
    texts = [record.text, *(turn.content for turn in record.turns)]
    return frozenset(words(" ".join(texts))) | {""}  # never empty, also for texts without words


def _relearn(battery: Battery, rows: Sequence[Record], others: Sequence[int], subject: Subject) -> Probed:
    """Train a copy and probe it along the way. In float32: bfloat16 would round small steps away."""
    count, seed = battery.request.relearning_steps, battery.request.seed
    model = subject.load("float32")
    examples = subject.encoder.encode_all(rows, "relearning")
    require_room(model, ids_of({"relearning": examples}), subject.encoder.tokenizer)
    every = max(1, count // POINTS)
    steps: list[int] = []
    path: list[list[float]] = []
    for step in fine_tune(model, examples, subject, count, battery.learning_rate, seed):
        if step % every == 0 or step == count:
            steps.append(step)
            path.append(probe(battery, subject, model, others, speak=False).values[PROBABILITY][FORGET.key])
    return replace(probe(battery, subject, model, others), steps=steps, path=path)


def fine_tune(
    model: nn.Module, examples: Sequence[Example], subject: Subject, steps: int, learning_rate: float, seed: int
) -> Iterator[int]:
    """Minimise the mean cross-entropy of answer tokens: AdamW at a constant rate, no decay, batches of eight rows.

    Yields:
        The number of steps taken so far, from 0.

    Raises:
        Missing: the loss became NaN or infinite.
    """
    torch.manual_seed(seed)  # for dropout
    model.requires_grad_(True)  # merged adapters leave the weights under them frozen
    tuning = FineTuning(model, subject.encoder.tokenizer.pad_token_id, learning_rate=learning_rate, clip=CLIP)
    yield tuning.steps
    for batch in islice(_endless_batches(examples, seed), steps):
        try:
            tuning.step(batch)
        except NonFiniteError as error:
            raise Missing(f"relearning: {error}") from None
        yield tuning.steps


def _endless_batches(examples: Sequence[Example], seed: int) -> Iterator[list[Example]]:
    """Each pass over the examples in an order of its own."""
    rng = Random(seed)
    while True:
        yield from in_turn(rng.sample(list(examples), len(examples)), BATCH_SIZE)
