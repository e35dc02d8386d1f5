"""Relearning: how fast does knowledge come back when the model is trained on a little of it, or beside it?

A model that never had the knowledge cannot get it back from other rows; one that only hides it often does
(Hu et al., arXiv 2406.13356; Lynch et al., arXiv 2402.16835). Which learning rate brings most back nobody knows
beforehand, and each method withstands some better than others: so several are tried, and the strongest counts.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from random import Random

from torch import nn

from gru_unlearn.attacks.battery import TARGET, Battery
from gru_unlearn.attacks.probing import PROBABILITY, Name, Probed, Progress, Trial, Variants, probe
from gru_unlearn.attacks.relearnt_copies import Tuning, computing, copy_to_train, fine_tune
from gru_unlearn.common.words import words
from gru_unlearn.data import Record
from gru_unlearn.data.model_room import ids_of, require_room
from gru_unlearn.models.subject import Subject
from gru_unlearn.results.row_kinds import FORGET

FEW, RELATED, UNRELATED, ALL = "forget rows", "related rows", "unrelated rows", "all forget rows"
"""What is trained on: all of them to see what it costs, and not what comes back beside them."""

RELEARNED = 4
"""One forget row in so many is trained on; the answers to the others are what may come back."""

POINTS = 6
"""How often the rows that are not trained on are looked at along the way; half as often where time is short."""


def relearning(battery: Battery) -> Variants:
    """Training on a few forget rows, on related rows and on unrelated ones, at several learning rates, of all weights
    and of adapters; measured on the other forget rows."""
    count = len(battery.forget)
    if count < 2:
        return {FEW: "needs at least two forget rows"}
    few = sorted(Random(battery.request.seed).sample(range(count), max(1, count // RELEARNED)))
    others = [place for place in range(count) if place not in few]
    untouched = cache(partial(_untouched, battery, others))
    variants: dict[Name, Trial | str] = {}
    for name, rows in _training_rows(battery, few, others).items():
        if not rows:
            variants[name] = "needs retain or held-out rows"
            continue
        for tuning in _tunings(battery, name):
            course = _course(battery, name, rows, tuning, others)
            variants[name, tuning.form] = partial(_relearn, battery, course, untouched)
    return variants


def _training_rows(battery: Battery, few: Sequence[int], others: Sequence[int]) -> dict[str, Sequence[Record]]:
    """By what they are to the forget rows."""
    count = len(battery.forget)
    measured = [battery.forget[place] for place in others]
    rows: dict[str, Sequence[Record]] = {
        FEW: [battery.forget[place] for place in few],
        RELATED: nearest(measured, battery.kept("retain", "held_out"), count),
    }
    if battery.extent.thorough:
        rows[UNRELATED] = battery.sample(battery.sets["unrelated"], count)
    if not battery.extent.hurries:
        rows[ALL] = battery.forget
    return rows


def _tunings(battery: Battery, name: str) -> Iterator[Tuning]:
    """In how many ways a copy is trained on such rows."""
    extent, rate = battery.extent, battery.learning_rate
    usual = Tuning(extent.relearning_steps, rate, extent.relearning_batch, battery.request.seed)
    multiples = extent.relearning_rates
    if extent.hurries and (name == UNRELATED or (name == FEW and not extent.thorough)):
        multiples = multiples[-1:]
    for multiple in multiples:
        yield replace(usual, learning_rate=multiple * rate)
    if name == RELATED or (name != UNRELATED and not extent.hurries):
        for multiple in extent.adapter_rates:
            yield replace(usual, learning_rate=multiple * rate, adapters=True)


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


# --- one copy --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Course:
    """What a copy is trained on, how, and what is measured: places among the forget rows under attack."""

    rows: Sequence[Record]
    tuning: Tuning
    others: Sequence[int]
    """where answers may come back that it is not trained on"""
    trained: Sequence[int] = ()
    """of which it is measured what winning them back costs"""


def _course(battery: Battery, name: str, rows: Sequence[Record], tuning: Tuning, others: Sequence[int]) -> _Course:
    """What winning back costs is measured on all rows; where time is short, on the few that are trained on anyway."""
    everything = range(len(battery.forget))
    if name == ALL:
        return _Course(rows, tuning, (), everything)
    if name == FEW and battery.extent.hurries:
        return _Course(rows, tuning, others, [place for place in everything if place not in others])
    return _Course(rows, tuning, others)


def _relearn(battery: Battery, course: _Course, untouched: Callable[[Subject], Probed], subject: Subject) -> Probed:
    """Train a copy and probe it along the way; the target is not trained, as it marks what there is to bring back."""
    if subject.name == TARGET:
        return untouched(subject) if course.others else Probed({}, [])
    model, tuning = copy_to_train(subject, course.tuning), course.tuning
    examples = subject.encoder.encode_all(course.rows, "relearning")
    require_room(model, ids_of({"relearning": examples}), subject.encoder.tokenizer)
    late, early = late_points(tuning.steps, battery.extent.hurries), early_points(tuning.steps)
    steps: list[int] = []
    path: list[list[float]] = []
    won = Progress([battery.numbers[place] for place in course.trained], [], [])
    for step in fine_tune(model, examples, subject, tuning, narrow=battery.computes_narrow):
        if course.others and step in late:
            steps.append(step)
            path.append(_probabilities(battery, subject, model, course.others))
        if course.trained and step in early:
            won.steps.append(step)
            won.values.append(_probabilities(battery, subject, model, course.trained))
    found = _last(battery, course, subject, model, path)
    return replace(found, steps=steps, path=path, won_back=won if course.trained else None)


def _last(battery: Battery, course: _Course, subject: Subject, model: nn.Module, path: Sequence[list[float]]) -> Probed:
    """What the trained copy knows, and says where there is time to listen, of rows that it was not trained on."""
    if not course.others:
        return Probed({}, [])
    if battery.extent.hurries:
        return Probed({PROBABILITY: {FORGET.key: path[-1]}}, [battery.numbers[place] for place in course.others])
    with computing(narrow=battery.computes_narrow):
        return probe(battery, subject, model, course.others)


def _untouched(battery: Battery, others: Sequence[int], subject: Subject) -> Probed:
    """As if it had been trained, and nothing had come of it."""
    found = probe(battery, subject, subject.model, others, speak=not battery.extent.hurries)
    steps = sorted(late_points(battery.extent.relearning_steps, battery.extent.hurries))
    return replace(found, steps=steps, path=[found.values[PROBABILITY][FORGET.key]] * len(steps))


def _probabilities(battery: Battery, subject: Subject, model: nn.Module, which: Sequence[int]) -> list[float]:
    with computing(narrow=battery.computes_narrow):
        return probe(battery, subject, model, which, speak=False).values[PROBABILITY][FORGET.key]


def late_points(steps: int, hurries: bool) -> set[int]:
    """Steps at which rows are looked at that may come back late: evenly spread, with the first and the last."""
    every = math.ceil(2 * steps / POINTS) if hurries else max(1, steps // POINTS)
    return {*range(0, steps, every), steps}


def early_points(steps: int) -> set[int]:
    """Steps at which rows are looked at that come back soon: ever farther apart, with the first and the last."""
    powers = [2**power for power in range(steps.bit_length())]
    between = [power + power // 2 for power in powers]
    return {0, steps} | {step for step in (*powers, *between) if step <= steps}
