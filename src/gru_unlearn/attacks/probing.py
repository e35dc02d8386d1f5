"""What a trial brings to light: for each row and measure one number per model."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, product, starmap

import numpy as np
import numpy.typing as npt
from torch import nn

from gru_unlearn.attacks.battery import Battery
from gru_unlearn.attacks.subject import Subject
from gru_unlearn.data import Record
from gru_unlearn.evaluation import Entry, Missing, ScoreTable, Use, evaluate
from gru_unlearn.evaluation.metrics import probability, rouge
from gru_unlearn.evaluation.rows import Item, RowSet, Suite

PROBABILITY, ROUGE, FOUND = "prob", "ROUGE-L", "found"
FORGET, HOLDOUT = "forget", "holdout"


@dataclass(frozen=True)
class Probed:
    """What came out of one model."""

    values: Mapping[str, Mapping[str, list[float]]]
    """measure → set → one value per row. One set: its mean counts. Forget and holdout: how well they are told apart"""
    numbers: list[int]
    """the forget rows in question, by their numbers in the whole set"""
    said: list[str] = field(default_factory=list)
    """what the model said, one text per row, where it was made to speak"""
    steps: list[int] = field(default_factory=list)
    path: list[list[float]] = field(default_factory=list)
    """where the attack takes steps: the rows' probabilities after so many"""


Trial = Callable[[Subject], Probed]
"""One variant of an attack, made on one model."""

Variants = Mapping[str, Trial | str]
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
    metrics = [probability(PROBABILITY, FORGET)]
    if speak:
        metrics.append(rouge(ROUGE, FORGET))

    rows = RowSet([Item(record) for record in records], max_new_tokens=longest_answer(subject, records))
    suite = Suite("attack", {FORGET: rows}, metrics)
    found = evaluate(model, subject.encoder, suite, batch_size=battery.request.batch_size)
    for reason in found.missing.values():
        raise Missing(reason)

    values = {PROBABILITY: found.rows[PROBABILITY]}
    if not speak:
        return Probed(values, numbers)
    spoken, said = hear([answers(record) for record in records], [found.table.generations(FORGET)])
    return Probed({**values, **spoken}, numbers, said)


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


def hear(
    references: Sequence[Sequence[str]], tries: Sequence[Sequence[str]]
) -> tuple[dict[str, dict[str, list[float]]], list[str]]:
    """For each row the highest ROUGE-L recall of any try against any of its references, whether any try contains one of
    them, and the text of the best try.

    Args:
        references: for each row its answer in one wording or more.
        tries: k times one text per row.
    """
    recalls = np.array([_recalls(references, texts) for texts in tries])  # [k, rows]
    found = []
    for wordings, *texts in zip(references, *tries, strict=True):
        found.append(float(any(starmap(contains, product(texts, wordings)))))
    best = [tries[number][row] for row, number in enumerate(recalls.argmax(axis=0))]
    return {ROUGE: {FORGET: recalls.max(axis=0).tolist()}, FOUND: {FORGET: found}}, best


def contains(text: str, answer: str) -> bool:
    """Whether the words of the answer stand in the text, in order and together; case and punctuation do not count."""
    return f" {_words_alone(answer)} " in f" {_words_alone(text)} "


def _words_alone(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def _recalls(references: Sequence[Sequence[str]], texts: Sequence[str]) -> npt.NDArray[np.float64]:
    """Of each text against the best of its row's references: by their first wordings, their second ones, and so on."""
    by_wording = []
    for number in range(max(map(len, references))):
        wordings = [row[min(number, len(row) - 1)] for row in references]
        by_wording.append(_rouge(wordings, texts))
    return np.max(by_wording, axis=0)


def _rouge(references: Sequence[str], texts: Sequence[str]) -> npt.NDArray[np.float64]:
    """By the metric itself, on a table that holds nothing but texts."""
    none = np.zeros(0, dtype=np.float32)
    entries = []
    for row, (reference, text) in enumerate(zip(references, texts, strict=True)):
        uses = [Use(FORGET, row)]
        entries.append(Entry("", reference, none, none.astype(bool), none, none, generation=text, uses=uses))
    return rouge(ROUGE, FORGET).compute(ScoreTable(entries), None).rows[FORGET]
