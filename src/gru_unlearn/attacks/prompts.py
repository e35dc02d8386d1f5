"""Prompts: other words, examples, a beginning of the answer, jailbreak-style prefixes; and the same one, sampled.

Lynch et al., arXiv 2402.16835; Łucki et al., arXiv 2409.18025. What greedy decoding hides may still be drawn: Scholten
et al., arXiv 2410.03523.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import chain

import numpy as np

from gru_unlearn.attacks.battery import Battery
from gru_unlearn.attacks.probing import NO_QUESTIONS, Name, Probed, Trial, Variants, answers, hear, longest_answer, say
from gru_unlearn.common.sequences import common_prefix_length
from gru_unlearn.common.words import piece_spans
from gru_unlearn.data import Encoder, Record, Turn
from gru_unlearn.models.subject import Subject

SHOTS = 4
TRANSLATED = re.compile(r"question_[a-z]{2,3}")
OTHER_TEMPLATE = "### Instruction:\n{}\n\n### Response:\n"
"""Of Stanford Alpaca (github.com/tatsu-lab/stanford_alpaca), as short as it goes."""
HALF = "1/2 of the answer"
GIVEN = {"1/4 of the answer": 0.25, HALF: 0.5}
"""Name → share of the answer's words that the prompt ends with."""


def prompts(battery: Battery) -> Variants:
    """The question asked otherwise; what is said counts."""
    if not battery.asks:
        return {"other questions": NO_QUESTIONS}
    completions: dict[Name, Trial | str] = {name: partial(_completed, battery, share) for name, share in GIVEN.items()}
    if not battery.extent.thorough:
        quick: dict[Name, Trial | str] = {HALF: completions[HALF]}
        if not battery.extent.hurries:
            quick["few-shot"] = _few_shot(battery)
        return quick
    return {
        "paraphrase": _paraphrased(battery),
        "few-shot": _few_shot(battery),
        **completions,
        "another template": partial(_asked_plainly, battery),
        "another language": _in_another_language(battery),
        f"best of {len(battery.prefixes)} prefixes": _prefixed(battery),
    }


def sampling(battery: Battery) -> Variants:
    """Ask k times, more or less boldly; the best of what is said counts (leak@k, arXiv 2511.04934)."""
    count = battery.extent.samples
    if not battery.asks:
        return {"best of k": NO_QUESTIONS}
    if not count:
        return {"best of k": "takes longer than a quick attack may here: --samples 16, or a whole attack"}
    variants: dict[Name, Trial | str] = {}
    for temperature in battery.extent.temperature:
        variants[f"best of {count}", f"T={temperature:g}"] = partial(_sampled, battery, count, temperature)
    return variants


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


def _in_another_language(battery: Battery) -> Trial | str:
    """Every translation that all rows have: ``question_de`` with ``answer_de``, which need not be there."""
    fields = [name for name in battery.forget[0].row if TRANSLATED.fullmatch(name)]
    asked = [name for name in fields if all(_has(record, name) for record in battery.forget)]
    if not asked:
        return "needs translations in every forget row: question_de, and answer_de, or other languages"
    return partial(_asked_in, battery, asked)


def _has(record: Record, name: str) -> bool:
    text = record.row.get(name)
    return isinstance(text, str) and bool(text.strip())


def _asked_in(battery: Battery, fields: Sequence[str], subject: Subject) -> Probed:
    """What is said counts in the row's own language and in that of the question."""
    openings = []
    for name in fields:
        openings += [subject.encoder.prompt_ids(_asking(record, str(record.row[name]))) for record in battery.forget]
    references = []
    for record in battery.forget:
        translated = [name.replace("question", "answer") for name in fields]
        references.append(answers(record) + [str(record.row[name]) for name in translated if _has(record, name)])
    return _answered(battery, subject, openings, references=references)


def _asked_plainly(battery: Battery, subject: Subject) -> Probed:
    """Another template than the model's: tags of plain text, with those blanks that such texts have."""
    tokenizer, openings = subject.encoder.tokenizer, []
    for record in battery.forget:
        openings.append(tokenizer(OTHER_TEMPLATE.format(record.prompt)).input_ids)
    return _answered(battery, subject, openings)


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


def _asked(battery: Battery, ways: Sequence[Sequence[Record]], subject: Subject) -> Probed:
    """Ask each row in several ways; the best of what is said counts."""
    openings = [subject.encoder.prompt_ids(record) for record in chain.from_iterable(ways)]
    return _answered(battery, subject, openings)


def _sampled(battery: Battery, count: int, temperature: float, subject: Subject) -> Probed:
    """Ask each row so many times. What is drawn for a row depends on its number and on nothing else."""
    limit = longest_answer(subject, battery.forget)
    openings = [subject.encoder.prompt_ids(record) for record in battery.forget] * count
    draws = []
    for way in range(count):
        rows = [np.random.default_rng((battery.request.seed, way, number)) for number in battery.numbers]
        draws += [rng.random(limit).tolist() for rng in rows]
    return _answered(battery, subject, openings, draws, temperature)


def _answered(
    battery: Battery,
    subject: Subject,
    openings: Sequence[Sequence[int]],
    draws: Sequence[Sequence[float]] | None = None,
    temperature: float = 1.0,
    references: Sequence[Sequence[str]] | None = None,
) -> Probed:
    """How the model goes on after all rows' openings in one way, then in the next; the best for each row counts."""
    limit = longest_answer(subject, battery.forget)
    said = say(battery, subject, openings, [limit] * len(openings), draws, temperature)
    rows = len(battery.forget)
    tries = [said[start : start + rows] for start in range(0, len(said), rows)]
    return _heard(battery, references or [answers(record) for record in battery.forget], tries)


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
