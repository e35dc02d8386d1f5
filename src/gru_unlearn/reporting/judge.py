"""The one rule by which numbers become a verdict: is it forgotten, is the rest kept, does it stay gone.

Pure functions of numbers. Every finding carries the thresholds that decided it, and says so where a judgement is
impossible.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gru_unlearn.reporting import remarks
from gru_unlearn.reporting.evidence import Evidence, Kept, Sample
from gru_unlearn.reporting.forgetting import (
    ABOVE,
    GONE,
    SIGNIFICANT,
    WAY_BEGUN,
    WAY_DONE,
    Forgetting,
    judge_forgetting,
    worst,
)
from gru_unlearn.reporting.keeping import KEPT_ALL, KEPT_MOST, judge_keeping
from gru_unlearn.reporting.mark_words import how_sure, stands_for
from gru_unlearn.reporting.row_words import words_for
from gru_unlearn.reporting.statements import may_not_state, may_state, said_of_all, said_of_any
from gru_unlearn.reporting.staying import BACK_LITTLE, BACK_MUCH, DEAR, ItWas, Staying, judge_staying
from gru_unlearn.reporting.tables import plural, shown
from gru_unlearn.reporting.verdict_words import attack_headline, relearning_words, verdict_sentence
from gru_unlearn.results.attack_summary import AttackResult, Estimate
from gru_unlearn.results.verdict import Answer, Said, Verdict

FORGOTTEN_RULE = (
    f"Yes: the mean probability of the forgotten answers has gone at least {WAY_DONE:.0%} of the way from the model "
    "before to a model that never saw them (the retain model), and forget quality, where it was measured, is above "
    f"{SIGNIFICANT}, and no more of the rows looked at one by one are answered word for word (plain texts: continued "
    "from their beginning) than by the retain model. "
    f"Partly: at least {WAY_BEGUN:.0%} of the way, and of the answers given word for word. "
    f"Where the model before was not measured, yes means at most {ABOVE} times the retain model's probability. Without "
    "a retain model the same way is measured to what stands in for it: the model before fine-tuning, rows of the same "
    "form about what nobody knows, or the same rows with invented names; then the rows are gone by this mark, and how "
    "sure that is stands beside it. "
    f"Without any: no answer comes word for word, and {GONE:.0%} of the probability before is gone. Where nobody "
    "counted answers, there can be no yes: a mean hides single rows. What an attack brings back for the most part is "
    "partly forgotten."
)
KEPT_RULE = (
    f"Yes: at least {KEPT_ALL:.0%} of the answer probability before is left, on rows that no step saw (held-out) and "
    f"on retain rows. Partly: at least {KEPT_MOST:.0%}. Without held-out rows there can be no yes: retain rows guarded "
    "the run, and flatter it. Rows that the model made itself count, and are said to be that. Where most answers are "
    "loops, empty or one word: no."
)
STAYS_RULE = (
    f"Yes: the strongest attack tried brings back at most {BACK_LITTLE:.0%} of what the model before knew beyond a "
    f"model that never saw it and was attacked alike. Partly: at most {BACK_MUCH:.0%}. Where there is no such model, "
    "the one before fine-tuning stands in for it, which has not learnt the rest either: a yes is less sure then. "
    "Without any there is no yes: what comes back as a whole answer says no or partly, and all else cannot be told. "
    f"Where winning half back takes less than {DEAR:.0%} of that model's steps, at most partly."
)
NO_PROOF = (
    "No such number proves that the data are gone for good: it says how a model answers these questions, not that no "
    "other question, and no further training, could bring them back."
)


@dataclass(frozen=True, slots=True)
class Finding:
    """A question, its answer, why, and by which thresholds."""

    question: str
    answer: Answer
    why: str
    rule: str


def verdict_of(
    evidence: Evidence, attacks: Sequence[AttackResult] | None = None, cost: Estimate | None = None
) -> Verdict:
    """The verdict on one model. ``attacks`` is None where none was tried; ``cost``: of relearning."""
    keeping, forgetting = judge_keeping(evidence), judge_forgetting(evidence)
    staying = _of_what_is_gone(judge_staying(attacks, cost), forgetting.answer, forgetting.remarks)
    forgetting = _after_attacks(forgetting, staying)
    return Verdict(
        forgotten=forgetting.answer,
        kept=keeping.answer,
        stays_gone=staying.answer,
        sentence=verdict_sentence(evidence, forgetting, keeping, staying),
        numbers=_numbers(evidence, staying),
        may_state=may_state(forgetting, keeping, staying, evidence.words, tried=evidence.tried),
        may_not_state=may_not_state(forgetting, keeping, staying, evidence.words),
        remarks=list(forgetting.remarks),
    )


def _of_what_is_gone(staying: Staying, forgotten: Answer, found: Sequence[str]) -> Staying:
    """What was never there, or never went, can neither stay gone nor come back."""
    it_was: ItWas = "gone"
    if forgotten == "no":
        it_was = "there"
    elif remarks.NEVER_KNOWN in found:
        it_was = "unknown"
    if it_was == "gone":
        return staying
    if staying.answer in ("yes", "unknown"):
        staying = replace(staying, answer="unknown", no_scale=False)
    return replace(staying, it_was=it_was)


def _after_attacks(forgetting: Forgetting, staying: Staying) -> Forgetting:
    """What comes back for the most part was hidden, and not removed."""
    if staying.tried == 0:
        return replace(forgetting, remarks=(*forgetting.remarks, remarks.NOT_ATTACKED))
    if staying.answer != "no" or staying.it_was == "unknown":
        return forgetting
    if staying.it_was == "there":
        return replace(forgetting, remarks=(*forgetting.remarks, remarks.NEVER_GONE))
    answer: Answer = "partly" if forgetting.answer == "yes" else forgetting.answer
    return replace(forgetting, answer=answer, remarks=(*forgetting.remarks, remarks.CAME_BACK))


def together(verdicts: Mapping[str, Verdict]) -> Verdict:
    """Of several models, by their names, the least that can be said of all: what each lets one state, and what any
    does not."""
    counts = Counter(verdict.forgotten for verdict in verdicts.values())
    told = ", ".join(_TOGETHER[answer].format(counts[answer]) for answer in _TOGETHER if counts[answer])
    return Verdict(
        forgotten=worst(verdict.forgotten for verdict in verdicts.values()),
        kept=worst(verdict.kept for verdict in verdicts.values()),
        stays_gone=worst(verdict.stays_gone for verdict in verdicts.values()),
        sentence=f"Of {plural(len(verdicts), 'model')}, {told}.",
        numbers=[f"{name}: {verdict.sentence}" for name, verdict in verdicts.items()],
        may_state=said_of_all({name: verdict.may_state for name, verdict in verdicts.items()}),
        may_not_state=said_of_any({name: verdict.may_not_state for name, verdict in verdicts.items()}),
        remarks=[],
    )


_TOGETHER: dict[Answer, str] = {
    "yes": "{} removed the rows",
    "partly": "{} removed the rows in part",
    "no": "{} did not remove the rows",
    "unknown": "of {} it cannot be said",
}


# --- the numbers behind it -------------------------------------------------------------------------------------------


def _numbers(evidence: Evidence, staying: Staying) -> list[str]:
    told = [forget_numbers(evidence)]
    told += [kept_numbers(name, kept) for name, kept in evidence.kept.items() if kept.after is not None]
    if staying.tried:
        told.append(attack_headline(staying))
    return told


def forget_numbers(evidence: Evidence) -> str:
    """Everything measured of the forget rows."""
    after, quality = evidence.forget_after, evidence.forget_quality
    if after is None:
        told = "The probability of the answers to the forget rows was not measured."
    else:
        these = f"the forgotten {evidence.words.due}" if evidence.tried else evidence.words.of_forget_rows
        told = f"Mean probability of {these}{_looked_at(evidence.sample)}: "
        told += f"{_from(evidence.forget_before)}{shown(after)}"
        told += _the_mark(evidence)
        way = judge_forgetting(evidence).way
        told += "." if way is None else f" ({way:.0%} of the way)."
    if quality is not None:
        can = "can" if quality <= SIGNIFICANT else "cannot"
        told += f" Forget quality {shown(quality)}: a test {can} tell its answers from the retain model's."
    if evidence.said is not None:
        told += f" {_said(evidence.said)}{_others_said(evidence)}."
    return told


def _the_mark(evidence: Evidence) -> str:
    mark = evidence.mark
    if mark is None:
        return ""
    sure = f", {how_sure(mark)}" if how_sure(mark) else ""
    return f"; {stands_for(mark)}: {shown(mark.value)}{sure}"


def _said(said: Said) -> str:
    broken = f", and {said.broken} with a loop, nothing, or one word" if said.broken else ""
    words = words_for(said)
    these = f"this one {words.one_asked}" if said.asked == 1 else f"{said.asked} of these {words.asked}"
    return f"Of {these} it {words.says} {said.word_for_word} word for word{broken}"


def _others_said(evidence: Evidence) -> str:
    others = {"before it was": evidence.said_before, "the retain model": evidence.said_by_retain_model}
    known = {who: said for who, said in others.items() if said is not None}
    return "".join(f"; {who} {said.word_for_word}" for who, said in known.items())


def kept_numbers(name: str, kept: Kept) -> str:
    """Everything measured of a set that must stay."""
    told = f"{name.capitalize()} rows{_looked_at(kept.sample)}: {_from(kept.before)}{shown(kept.after)}"
    if kept.share is not None:
        told += f" ({kept.share:.1%} of before)"
    if kept.retain_model is not None:
        told += f"; a model that never saw the forgotten: {shown(kept.retain_model)}"
        if kept.retain_model_rows is not None:
            told += f" (on {kept.retain_model_rows} rows)"
    if kept.rmf is not None:
        told += f"; at matched forgetting (RMF) {shown(kept.rmf)}"
    return f"{told}."


def _looked_at(sample: Sample | None) -> str:
    return "" if sample is None else f", {sample} looked at"


def _from(before: float | None) -> str:
    return "" if before is None else f"{shown(before)} → "


# --- the three questions one by one ----------------------------------------------------------------------------------


def findings_of(
    evidence: Evidence, attacks: Sequence[AttackResult] | None = None, cost: Estimate | None = None
) -> list[Finding]:
    """Forgotten? Kept? Does it stay gone? The answers are those of :func:`verdict_of`."""
    verdict = verdict_of(evidence, attacks, cost)
    rest = " ".join(kept_numbers(name, kept) for name, kept in evidence.kept.items() if kept.after is not None)
    return [
        Finding("Is it forgotten?", verdict.forgotten, forget_numbers(evidence), FORGOTTEN_RULE),
        Finding("Is the rest kept?", verdict.kept, rest or "What must stay was not measured.", KEPT_RULE),
        staying_finding(attacks, cost, verdict),
    ]


def staying_of(
    verdict: Verdict | None, attacks: Sequence[AttackResult] | None, cost: Estimate | None = None
) -> Staying:
    """By the attacks; ``verdict``: of what there was to bring back, where that is known."""
    staying = judge_staying(attacks, cost)
    if verdict is None:
        return staying
    return _of_what_is_gone(staying, verdict.forgotten, verdict.remarks)


def staying_finding(
    attacks: Sequence[AttackResult] | None, cost: Estimate | None = None, verdict: Verdict | None = None
) -> Finding:
    """By the strongest attack, and by what relearning costs."""
    staying = staying_of(verdict, attacks, cost)
    why = "No attack was tried: gru attack RUN tries some."
    if staying.tried:
        why = attack_headline(staying)
    strongest = staying.strongest
    if strongest is not None and strongest.low is not None and strongest.high is not None:
        why += f" 95 % interval of that share: {strongest.low:.0%} to {strongest.high:.0%}, {strongest.rows} rows."
    if cost is not None and cost.interval is not None:
        why += f" {relearning_words(cost)}"
    return Finding("Does it stay gone?", staying.answer, why, STAYS_RULE)
