"""Is it forgotten? By answers given word for word, and by their mean probability, whichever says less.

Both are measured against a model that never saw the rows (the retain model). Where there is none, the probability is
measured against what stands in for it (the model before fine-tuning, control rows, the rows' own floor), else against
the model before; and then it can only be said that the rows are gone by these marks. A mean hides single rows, so that
where nobody counted answers, no probability makes it more than partly forgotten.
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

GONE, GONE_PARTLY = 0.6, 0.3
"""Without any such model or rows: share of the probability before that must have gone, where answers were looked at,
too. The retain model's is reached at 65 % (built-in benchmark), 89 % (SmolLM2 on TOFU) and 99 % (a tiny model on TOFU;
docs/how-to/own-data.md): more than the first cannot be asked of all."""
GONE_PARTLY_ALONE = 0.5
"""The second where the probability is the only mark: nobody saw that fewer answers come, so less is believed."""
PARTLY_RECITED = 0.5
"""Below this share of the answers that were given word for word before, those that still are make it partly."""

KNOWN = 0.05
"""Without such a model: one that answers nothing word for word knew nothing below this probability."""
NOTHING_LEARNT = 0.02
"""With one: nor where its probability is so little above that model's."""
KNOW_ROWS = ("retain_model", "base_model")
"""Marks that are of the forget rows themselves."""
UNCHANGED = 0.01
"""Share of the probability before: a smaller change is none."""

Read = Literal["answers", "probability"]


@dataclass(frozen=True, slots=True)
class Forgetting:
    """The answer, what decided it, and what has a word of its own."""

    answer: Answer
    remarks: tuple[str, ...] = ()
    by: tuple[Read, ...] = ()
    """the marks that were read"""
    way: float | None = None
    """of the probability: how far from the model before to the mark"""
    unseen: bool = False
    """whether it is partly only because nobody counted answers"""


def judge_forgetting(evidence: Evidence) -> Forgetting:
    """Whether the rows are forgotten, before anybody attacked."""
    if evidence.forget_after is None and evidence.said is None:
        return Forgetting("unknown", (remarks.NOT_MEASURED,))
    if _never_known(evidence):
        return Forgetting("unknown", (remarks.NEVER_KNOWN, *_what_lacks(evidence)))
    marks: dict[Read, Answer | None] = {"answers": _by_answers(evidence), "probability": _by_probability(evidence)}
    read = {mark: answer for mark, answer in marks.items() if answer is not None}
    answer = worst(read.values())
    if answer == "yes" and not _is_enough(evidence, read):
        answer = "unknown"
    found = [*_remarks(evidence, answer), *_what_lacks(evidence)]
    unseen = answer == "yes" and remarks.NOT_ASKED in found
    if unseen or (answer == "yes" and remarks.TOLD_APART in found):
        answer = "partly"
    return Forgetting(answer, tuple(found), tuple(read), way_of(evidence), unseen)


def worst(answers: Iterable[Answer]) -> Answer:
    """The one that says least; unknown where there is none."""
    order: tuple[Answer, ...] = ("no", "partly", "unknown", "yes")
    return min(answers, key=order.index, default="unknown")


def _is_enough(evidence: Evidence, read: Mapping[Read, Answer]) -> bool:
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
    after, before, mark = evidence.forget_after, evidence.forget_before, evidence.mark
    if after is None or (before is None and mark is None):
        return None
    if mark is None:
        assert before is not None
        return _by_what_is_gone(after, before, alone=evidence.said is None)
    if before is None:
        return _without_the_model_before(after, mark.value)
    way = way_of(evidence)
    if way is None:
        return None
    answer = grade(way, WAY_DONE, WAY_BEGUN)
    if not mark.from_the_model_itself:
        return answer
    gone = _by_what_is_gone(after, before, alone=False)  # such a mark may be much too high
    return answer if gone is None else worst((answer, gone))


def way_of(evidence: Evidence) -> float | None:
    """How far the probability has come from the model before to the mark; None where there is no such way."""
    after, before, mark = evidence.forget_after, evidence.forget_before, evidence.mark
    if after is None or before is None or mark is None or before - mark.value < NOTHING_LEARNT:
        return None
    return (before - after) / (before - mark.value)


def _by_what_is_gone(after: float, before: float, *, alone: bool) -> Answer | None:
    if before == 0:
        return None
    gone = 1 - after / before
    return grade(gone, GONE, GONE_PARTLY_ALONE if alone else GONE_PARTLY)


def _without_the_model_before(after: float, mark: float) -> Answer | None:
    """No model before is surer than 1: what would be too short a way from there is too short from anywhere."""
    if after <= ABOVE * mark:
        return "yes"
    longest_way = (1 - after) / (1 - mark)
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
    before, after, mark = evidence.forget_before, evidence.forget_after, evidence.mark
    if after is not None and after > before + NOTHING_LEARNT:
        return False
    if mark is None or mark.from_the_model_itself:
        return before < KNOWN
    return before - mark.value < NOTHING_LEARNT


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
    """Whether the answers are far less probable than to a model that never saw them; other rows cannot tell."""
    after, mark, way = evidence.forget_after, evidence.mark, way_of(evidence)
    if after is None or mark is None or mark.kind not in KNOW_ROWS:
        return False
    is_far_below = after < FAR_BELOW * mark.value and mark.value - after >= ROOM_BELOW
    return is_far_below or (way is not None and way > WAY_TOO_FAR)
