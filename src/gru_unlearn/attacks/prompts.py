"""Prompts: other words, examples, a beginning of the answer, jailbreak-style prefixes.

Lynch et al., arXiv 2402.16835; Łucki et al., arXiv 2409.18025.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from gru_unlearn.attacks.battery import Battery, Subject
from gru_unlearn.attacks.look import (
    NO_QUESTIONS,
    Attempt,
    Seen,
    Variants,
    answers,
    hear,
    longest_answer,
)
from gru_unlearn.data import Encoder, Record, Turn
from gru_unlearn.evaluation.generation import continuations

SHOTS = 4
GIVEN = {"1/4 of the answer": 0.25, "1/2 of the answer": 0.5}
"""Name → share of the answer's words that the prompt ends with."""


def prompts(battery: Battery) -> Variants:
    """The question asked otherwise; what is said counts."""
    if not battery.asks:
        return {"other questions": NO_QUESTIONS}
    prefixed = [[_asking(r, f"{prefix} {r.prompt}") for r in battery.forget] for prefix in battery.prefixes]
    return {
        "paraphrase": _paraphrased(battery),
        "few-shot": _few_shot(battery),
        **{name: partial(_completed, battery, share) for name, share in GIVEN.items()},
        f"best of {len(prefixed)} prefixes": partial(_asked, battery, prefixed),
    }


def _paraphrased(battery: Battery) -> Attempt | str:
    texts = [record.row.get("paraphrased_question") for record in battery.forget]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        return "needs a paraphrased_question in every forget row"
    retold = [_asking(record, str(text)) for record, text in zip(battery.forget, texts, strict=True)]
    return partial(_asked, battery, [retold])


def _few_shot(battery: Battery) -> Attempt | str:
    shots = [record for record in battery.sample(battery.kept("retain"), SHOTS) if record.turns]
    if not shots:
        return "needs retain rows with a question"
    shown = [turn for shot in shots for turn in shot.turns[-2:]]
    after = [replace(r, turns=(*_system(r), *shown, *r.turns[len(_system(r)) :])) for r in battery.forget]
    return partial(_asked, battery, [after])


def _system(record: Record) -> Sequence[Turn]:
    return record.turns[:1] if record.turns[0].role == "system" else ()


def _asking(record: Record, question: str) -> Record:
    """The same conversation with another last question."""
    return replace(record, turns=(*record.turns[:-2], Turn("user", question), record.turns[-1]))


def _asked(battery: Battery, ways: Sequence[Sequence[Record]], subject: Subject) -> Seen:
    """Ask each row in several ways; the best of what is said counts."""
    limits = [longest_answer(subject, battery.forget)] * len(battery.forget)
    said = [
        _say(battery, subject, [subject.encoder.prompt_ids(record) for record in records], limits) for records in ways
    ]
    return _seen(battery, [answers(record) for record in battery.forget], said)


def _completed(battery: Battery, share: float, subject: Subject) -> Seen:
    """Give the first words of the answer; what counts is the rest."""
    openings, limits, rests = [], [], []
    for record in battery.forget:
        opening, rest = given_away(record, share)
        whole, begun = (_ids(subject.encoder, record, answer) for answer in (record.answer, opening))
        known = next((i for i, (a, b) in enumerate(zip(begun, whole, strict=False)) if a != b), len(begun))
        openings.append(whole[:known])
        limits.append(len(whole) - known)
        rests.append([rest])
    return _seen(battery, rests, [_say(battery, subject, openings, limits)])


def given_away(record: Record, share: float) -> tuple[str, str]:
    """The first words of an answer, so many of them rounded down, and the rest, which is at least one word."""
    words = list(re.finditer(r"\S+", record.answer))
    given = int(share * len(words))
    cut = words[given - 1].end() if given else 0
    return record.answer[:cut], record.answer[cut:].strip()


def _ids(encoder: Encoder, record: Record, answer: str) -> list[int]:
    changed = replace(record, turns=(*record.turns[:-1], Turn("assistant", answer)))
    return list(encoder.encode_all([changed], "forget")[0]["input_ids"])


def _say(battery: Battery, subject: Subject, openings: Sequence[Sequence[int]], limits: Sequence[int]) -> list[str]:
    return continuations(subject.model, subject.encoder, openings, limits, battery.request.batch_size)


def _seen(battery: Battery, references: Sequence[Sequence[str]], said: Sequence[Sequence[str]]) -> Seen:
    values, best = hear(references, said)
    return Seen(values, list(battery.numbers), best)
