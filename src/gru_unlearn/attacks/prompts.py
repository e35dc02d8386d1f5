"""Prompts: other words, examples, a beginning of the answer, jailbreak-style prefixes; and the same one, sampled.

Lynch et al., arXiv 2402.16835; Łucki et al., arXiv 2409.18025. What greedy decoding hides may still be drawn: Scholten
et al., arXiv 2410.03523.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import chain

import numpy as np

from gru_unlearn.attacks.battery import Battery
from gru_unlearn.attacks.probing import NO_QUESTIONS, Probed, Trial, Variants, answers, hear, longest_answer, say
from gru_unlearn.common.sequences import common_prefix_length
from gru_unlearn.common.words import piece_spans
from gru_unlearn.data import Encoder, Record, Turn
from gru_unlearn.models.subject import Subject

SHOTS = 4
GIVEN = {"1/4 of the answer": 0.25, "1/2 of the answer": 0.5}
"""Name → share of the answer's words that the prompt ends with."""


def prompts(battery: Battery) -> Variants:
    """The question asked otherwise; what is said counts."""
    if not battery.asks:
        return {"other questions": NO_QUESTIONS}
    completions = {name: partial(_completed, battery, share) for name, share in GIVEN.items()}
    return {
        "paraphrase": _paraphrased(battery),
        "few-shot": _few_shot(battery),
        **completions,
        f"best of {len(battery.prefixes)} prefixes": _prefixed(battery),
    }


def sampling(battery: Battery) -> Variants:
    """Ask k times; the best of what is said counts."""
    count = battery.request.samples
    name = f"best of {count}, T={battery.request.temperature:g}"
    if not battery.asks:
        return {name: NO_QUESTIONS}
    return {name: partial(_asked, battery, [battery.forget] * count, sampled=True)}


def _prefixed(battery: Battery) -> Trial:
    ways = []
    for prefix in battery.prefixes:
        ways.append([_asking(record, f"{prefix} {record.prompt}") for record in battery.forget])
    return partial(_asked, battery, ways)


def _paraphrased(battery: Battery) -> Trial | str:
    retold = []
    for record in battery.forget:
        text = record.row.get("paraphrased_question")
        if not isinstance(text, str) or not text.strip():
            return "needs a paraphrased_question in every forget row"
        retold.append(_asking(record, text))
    return partial(_asked, battery, [retold])


def _few_shot(battery: Battery) -> Trial | str:
    shots = [record for record in battery.sample(battery.kept("retain"), SHOTS) if record.turns]
    if not shots:
        return "needs retain rows with a question"
    shown = tuple(chain.from_iterable(shot.turns[-2:] for shot in shots))
    records = []
    for record in battery.forget:
        begin = int(record.turns[0].role == "system")  # which stays the first turn
        records.append(replace(record, turns=record.turns[:begin] + shown + record.turns[begin:]))
    return partial(_asked, battery, [records])


def _asking(record: Record, question: str) -> Record:
    """The same conversation with another last question."""
    return replace(record, turns=(*record.turns[:-2], Turn("user", question), record.turns[-1]))


def _asked(battery: Battery, ways: Sequence[Sequence[Record]], subject: Subject, *, sampled: bool = False) -> Probed:
    """Ask each row in several ways; the best of what is said counts."""
    limit = longest_answer(subject, battery.forget)
    said = []
    for way, records in enumerate(ways):
        openings = [subject.encoder.prompt_ids(record) for record in records]
        draws = None
        if sampled:
            rows = [np.random.default_rng((battery.request.seed, way, number)) for number in battery.numbers]
            draws = [rng.random(limit).tolist() for rng in rows]
        said.append(say(battery, subject, openings, [limit] * len(openings), draws))
    return _heard(battery, [answers(record) for record in battery.forget], said)


def _completed(battery: Battery, share: float, subject: Subject) -> Probed:
    """Give the first words of the answer; what counts is the rest."""
    openings, limits, rests = [], [], []
    for record in battery.forget:
        opening, rest = given_away(record, share)
        whole = _ids(subject.encoder, record, record.answer)
        known = common_prefix_length(_ids(subject.encoder, record, opening), whole)
        openings.append(whole[:known])
        limits.append(len(whole) - known)
        rests.append([rest])
    return _heard(battery, rests, [say(battery, subject, openings, limits)])


def given_away(record: Record, share: float) -> tuple[str, str]:
    """The first words of an answer (characters where a script writes no blanks), so many of them rounded down, and the
    rest, which is at least one."""
    spans = piece_spans(record.answer)
    given = int(share * len(spans))
    cut = spans[given - 1][1] if given else 0
    return record.answer[:cut], record.answer[cut:].strip()


def _ids(encoder: Encoder, record: Record, answer: str) -> list[int]:
    changed = replace(record, turns=(*record.turns[:-1], Turn("assistant", answer)))
    return list(encoder.encode_all([changed], "forget")[0]["input_ids"])


def _heard(battery: Battery, references: Sequence[Sequence[str]], said: Sequence[Sequence[str]]) -> Probed:
    values, best = hear(references, said)
    return Probed(values, list(battery.numbers), best)
