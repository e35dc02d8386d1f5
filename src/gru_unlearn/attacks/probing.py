"""What a trial brings to light: for each row and measure one number per model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, product, starmap
from typing import NamedTuple

from torch import nn

from gru_unlearn.attacks.battery import Battery
from gru_unlearn.common.words import pieces, words
from gru_unlearn.data import Record
from gru_unlearn.evaluation import Item, Missing, RowSet, Suite, evaluate
from gru_unlearn.evaluation.generation import continuations
from gru_unlearn.evaluation.metrics import probability, rouge, rouge_l
from gru_unlearn.models.subject import Subject
from gru_unlearn.results.row_kinds import FORGET

PROBABILITY, ROUGE, FOUND = "prob", "ROUGE-L", "found"


RowValues = dict[str, dict[str, list[float]]]
"""Measure → set → one value per row. One set: its mean counts. Forget and unseen: how well they are told apart."""


class Progress(NamedTuple):
    """How rows come back that a copy is trained on."""

    numbers: list[int]
    steps: list[int]
    values: list[list[float]]
    """the rows' probabilities after so many steps"""


@dataclass(frozen=True)
class Probed:
    """What came out of one model."""

    values: RowValues
    numbers: list[int]
    """the forget rows in question, by their numbers in the whole set"""
    said: list[str] = field(default_factory=list)
    """what the model said, one text per row, where it was made to speak"""
    steps: list[int] = field(default_factory=list)
    path: list[list[float]] = field(default_factory=list)
    """where the attack takes steps, or looks into layers: the rows' values after so many"""
    along: str = PROBABILITY
    """the measure of these values"""
    won_back: Progress | None = None
    """where it trains on some of the rows under attack: these"""


Trial = Callable[[Subject], Probed]
"""One variant of an attack, made on one model."""

Name = str | tuple[str, str]
"""Of a variant, or of a variant and the form in which it is tried."""

Variants = Mapping[Name, Trial | str]
"""Name → trial, or the reason why there is none."""

NO_QUESTIONS = "needs rows with a question"


def no_attack(battery: Battery) -> Variants:
    """What is there before any attack."""
    everything = range(len(battery.forget))
    return {"": lambda subject: probe(battery, subject, subject.model, everything)}


def probe(battery: Battery, subject: Subject, model: nn.Module, which: Sequence[int], *, speak: bool = True) -> Probed:
    """Probability of the answers and, where rows have questions, whether they come back in what the model says.

    Args:
        battery, subject: of which ``model`` is a changed copy, or the model itself.
        model: to probe.
        which: places in ``battery.forget``.
        speak: False: probability alone.

    Raises:
        Missing: the scores are not finite.
    """
    records = [battery.forget[place] for place in which]
    numbers = [battery.numbers[place] for place in which]
    speak = speak and all(record.turns for record in records)
    metrics = [probability(PROBABILITY, FORGET.key)]
    if speak:
        metrics.append(rouge(ROUGE, FORGET.key))

    rows = RowSet([Item(record) for record in records], max_new_tokens=longest_answer(subject, records))
    suite = Suite("attack", {FORGET.key: rows}, metrics)
    found = evaluate(model, subject.encoder, suite, batch_size=battery.request.batch_size)
    for reason in found.missing.values():
        raise Missing(reason)

    values = {PROBABILITY: found.rows[PROBABILITY]}
    if not speak:
        return Probed(values, numbers)
    spoken, said = hear([answers(record) for record in records], [found.table.generations(FORGET.key)])
    return Probed(values | spoken, numbers, said)


def say(
    battery: Battery,
    subject: Subject,
    openings: Sequence[Sequence[int]],
    limits: Sequence[int],
    draws: Sequence[Sequence[float]] | None = None,
    temperature: float = 1.0,
) -> list[str]:
    """How the model goes on after each opening, for so many tokens at most: greedily, or sampled with these draws."""
    size = battery.request.batch_size
    return continuations(subject.model, subject.encoder, openings, limits, size, temperature=temperature, draws=draws)


def longest_answer(subject: Subject, records: Sequence[Record]) -> int:
    """Tokens of the longest answer, in either wording, with end-of-sequence: as long as generations may be."""
    texts = chain.from_iterable(answers(record) for record in records)
    return 1 + max(len(subject.encoder.tokenizer(text, add_special_tokens=False).input_ids) for text in texts)


def answers(record: Record) -> list[str]:
    """The answer, and its paraphrase where the row has one."""
    paraphrase = record.row.get("paraphrased_answer")
    if isinstance(paraphrase, str) and paraphrase.strip():
        return [record.answer, paraphrase]
    return [record.answer]


def hear(references: Sequence[Sequence[str]], tries: Sequence[Sequence[str]]) -> tuple[RowValues, list[str]]:
    """For each row the highest ROUGE-L recall of any try against any of its references, whether any try contains one of
    them, and the text of the best try.

    Args:
        references: for each row its answer in one wording or more.
        tries: k times one text per row.
    """
    recalled, found, best = [], [], []
    for wordings, *texts in zip(references, *tries, strict=True):
        recalls = [_recall(wordings, text) for text in texts]
        recalled.append(max(recalls))
        best.append(texts[recalls.index(max(recalls))])
        found.append(float(any(starmap(contains, product(texts, wordings)))))
    return {ROUGE: {FORGET.key: recalled}, FOUND: {FORGET.key: found}}, best


def _recall(wordings: Sequence[str], text: str) -> float:
    return max(rouge_l(wording, text).recall for wording in wordings)


def contains(text: str, answer: str) -> bool:
    """Whether the words of the answer stand in the text, in order and together; case and punctuation do not count.

    An answer without any word is looked for sign by sign.
    """
    wanted = words(answer)
    if not wanted:
        return "".join(pieces(answer)) in "".join(pieces(text))
    return f" {' '.join(wanted)} " in f" {' '.join(words(text))} "
