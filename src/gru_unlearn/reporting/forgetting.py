"""Is it forgotten? By answers given word for word, and by their mean probability, whichever says less.

Both are measured against a model that never saw the rows (the retain model); where there is none, against the model
before, and then it can only be said that the rows are gone by these marks.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from gru_unlearn.reporting import remarks
from gru_unlearn.reporting.evidence import Evidence
from gru_unlearn.results.verdict import Answer

WAY_DONE, WAY_BEGUN = 0.95, 0.5
"""Of the way from the target's forget probability to the retain model's: forgotten from the first, partly from the
second on."""
WAY_TOO_FAR = 1.25
FAR_BELOW, ROOM_BELOW = 0.25, 0.05
"""At most this share of the retain model's probability, and this much less, is too far, too."""
ABOVE = 1.05
"""Where the target's forget probability is unknown: times the retain model's, still forgotten."""
SIGNIFICANT = 0.05
"""Forget quality at or below this tells the two models apart."""

GONE, GONE_PARTLY = 0.5, 0.25
"""Without a retain model: share of the probability before that must have gone, where answers were looked at, too."""
GONE_ALONE, GONE_PARTLY_ALONE = 0.9, 0.5
"""The same where the probability is the only mark."""
PARTLY_RECITED = 0.5
"""Below this share of the answers that were given word for word before, those that still are make it partly."""

KNOWN = 0.05
"""Without a retain model: a model that answers nothing word for word knew nothing below this probability."""
NOTHING_LEARNT = 0.02
"""With one: nor where its probability is so little above the retain model's."""
UNCHANGED = 0.01
"""Share of the probability before: a smaller change is none."""

Mark = Literal["answers", "probability"]


@dataclass(frozen=True, slots=True)
class Forgetting:
    """The answer, what decided it, and what has a word of its own."""

    answer: Answer
    remarks: tuple[str, ...] = ()
    by: tuple[Mark, ...] = ()
    """the marks that were read"""
    way: float | None = None
    """of the probability: how far from the model before to the retain model"""


def judge_forgetting(evidence: Evidence) -> Forgetting:
    """Whether the rows are forgotten, before anybody attacked."""
    if evidence.forget_after is None and evidence.said is None:
        return Forgetting("unknown", (remarks.NOT_MEASURED,))
    if _never_known(evidence):
        return Forgetting("unknown", (remarks.NEVER_KNOWN, *_what_lacks(evidence)))
    marks: dict[Mark, Answer | None] = {"answers": _by_answers(evidence), "probability": _by_probability(evidence)}
    read = {mark: answer for mark, answer in marks.items() if answer is not None}
    answer = worst(read.values())
    if answer == "yes" and not _is_enough(evidence, read):
        answer = "unknown"
    found = [*_remarks(evidence, answer), *_what_lacks(evidence)]
    if answer == "yes" and remarks.TOLD_APART in found:
        answer = "partly"
    return Forgetting(answer, tuple(found), tuple(read), way_of(evidence))


def worst(answers: Iterable[Answer]) -> Answer:
    """The one that says least; unknown where there is none."""
    order: tuple[Answer, ...] = ("no", "partly", "unknown", "yes")
    return min(answers, key=order.index, default="unknown")


def _is_enough(evidence: Evidence, read: Mapping[Mark, Answer]) -> bool:
    """No answer word for word says something only of a model that gave some before."""
    return "probability" in read or bool(evidence.too_many_before)


# --- the two marks ---------------------------------------------------------------------------------------------------


def _by_answers(evidence: Evidence) -> Answer | None:
    """By answers that are given word for word beyond those of a model that never saw the rows."""
    now, before = evidence.too_many, evidence.too_many_before
    if now is None or (now == 0 and before == 0):
        return None
    if now == 0:
        return "yes"
    assert evidence.said is not None
    most = before if before is not None else evidence.said.asked - evidence.recited_by_retain_model
    return "partly" if now < PARTLY_RECITED * most else "no"


def _by_probability(evidence: Evidence) -> Answer | None:
    after, before, retain = evidence.forget_after, evidence.forget_before, evidence.forget_retain_model
    if after is None or (before is None and retain is None):
        return None
    if retain is None:
        assert before is not None
        return _by_what_is_gone(after, before, alone=evidence.said is None)
    if before is None:
        return _without_the_model_before(after, retain)
    way = way_of(evidence)
    return None if way is None else grade(way, WAY_DONE, WAY_BEGUN)


def way_of(evidence: Evidence) -> float | None:
    """How far the probability has come from the model before to the retain model; None where there is no such way."""
    after, before, retain = evidence.forget_after, evidence.forget_before, evidence.forget_retain_model
    if after is None or before is None or retain is None or before - retain < NOTHING_LEARNT:
        return None
    return (before - after) / (before - retain)


def _by_what_is_gone(after: float, before: float, *, alone: bool) -> Answer | None:
    if before == 0:
        return None
    gone = 1 - after / before
    if alone:
        return grade(gone, GONE_ALONE, GONE_PARTLY_ALONE)
    return grade(gone, GONE, GONE_PARTLY)


def _without_the_model_before(after: float, retain: float) -> Answer | None:
    """No model before is surer than 1: what would be too short a way from there is too short from anywhere."""
    if after <= ABOVE * retain:
        return "yes"
    longest_way = (1 - after) / (1 - retain)
    return "no" if longest_way < WAY_BEGUN else None


def grade(share: float, yes: float, partly: float) -> Answer:
    """By the least share that each answer takes."""
    if share >= yes:
        return "yes"
    if share >= partly:
        return "partly"
    return "no"


# --- what has a word of its own --------------------------------------------------------------------------------------


def _never_known(evidence: Evidence) -> bool:
    """Whether there was nothing to forget, and is nothing now."""
    if evidence.too_many or evidence.too_many_before or evidence.forget_before is None:
        return False
    before, after, retain = evidence.forget_before, evidence.forget_after, evidence.forget_retain_model
    if after is not None and after > before + NOTHING_LEARNT:
        return False
    if retain is None:
        return before < KNOWN
    return before - retain < NOTHING_LEARNT


def _remarks(evidence: Evidence, answer: Answer) -> list[str]:
    """Of a model that knew something."""
    found = {
        remarks.NO_EFFECT: answer == "no" and _is_unchanged(evidence),
        remarks.OVERSHOOT: _is_too_far(evidence),
        remarks.BROKEN: evidence.is_broken,
        remarks.TOLD_APART: evidence.forget_quality is not None and evidence.forget_quality <= SIGNIFICANT,
        remarks.NOTHING_TO_COMPARE: answer == "unknown",
    }
    return [remark for remark, is_so in found.items() if is_so]


def _what_lacks(evidence: Evidence) -> list[str]:
    """What was not there to be read."""
    lacks = {
        remarks.NOT_ASKED: evidence.said is None,
        remarks.NO_RETAIN_MODEL: evidence.forget_retain_model is None and evidence.said_by_retain_model is None,
    }
    return [remark for remark, is_so in lacks.items() if is_so]


def _is_unchanged(evidence: Evidence) -> bool:
    before, after = evidence.forget_before, evidence.forget_after
    if before is None or after is None or abs(before - after) > UNCHANGED * before:
        return False
    return evidence.too_many_before is None or evidence.too_many == evidence.too_many_before


def _is_too_far(evidence: Evidence) -> bool:
    """Whether the answers are far less probable than to a model that never saw them."""
    after, retain, way = evidence.forget_after, evidence.forget_retain_model, way_of(evidence)
    if after is None or retain is None:
        return False
    is_far_below = after < FAR_BELOW * retain and retain - after >= ROOM_BELOW
    return is_far_below or (way is not None and way > WAY_TOO_FAR)
