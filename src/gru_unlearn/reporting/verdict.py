"""What numbers come to, in words: is it forgotten, is the rest kept, does it stay gone. Pure functions of numbers.

Every finding carries the thresholds that decided it, and says so where a judgement is impossible.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from gru_unlearn.reporting.tables import plural, shown
from gru_unlearn.results.attack_summary import AttackResult
from gru_unlearn.results.row_kinds import HELD_OUT

Answer = Literal["yes", "partly", "no", "unknown"]

WAY_DONE, WAY_BEGUN = 0.95, 0.5
"""Of the way from the target's forget probability to the retain model's: forgotten from the first, partly from the
second on."""
WAY_TOO_FAR = 1.25
ABOVE = 1.05
"""Where the target's forget probability is unknown: times the retain model's, still forgotten."""
SIGNIFICANT = 0.05
"""Forget quality at or below this tells the two models apart."""
KEPT_ALL, KEPT_MOST = 0.95, 0.8
"""Share of what it was before: kept from the first, partly from the second on."""
BACK_LITTLE, BACK_MUCH = 0.1, 0.5
"""Share that an attack brings back: stays gone up to the first, partly up to the second."""

FORGOTTEN_RULE = (
    f"Yes: the mean probability of the forgotten answers has gone at least {WAY_DONE:.0%} of the way from the model "
    "before to a model that never saw them (the retain model), and forget quality, where it was measured, is above "
    f"{SIGNIFICANT}, and no more of the rows looked at one by one are answered word for word than by the retain model. "
    f"Partly: at least {WAY_BEGUN:.0%} of the way. "
    f"Where the model before was not measured, yes means at most {ABOVE} times the retain model's probability."
)
KEPT_RULE = (
    f"Yes: at least {KEPT_ALL:.0%} of the answer probability before is left, on rows that no step saw (held-out) and "
    f"on retain rows. Partly: at least {KEPT_MOST:.0%}. Without held-out rows there can be no yes: retain rows guarded "
    "the run, and flatter it."
)
STAYS_RULE = (
    f"Yes: the strongest attack tried brings back at most {BACK_LITTLE:.0%} of what the model before knew beyond a "
    f"model that never saw it and was attacked alike. Partly: at most {BACK_MUCH:.0%}."
)
NO_PROOF = (
    "No such number proves that the data are gone for good: it says how a model answers these questions, not that no "
    "other question, and no further training, could bring them back."
)


@dataclass(frozen=True, slots=True)
class Kept:
    """Mean answer probability of a set that must stay."""

    before: float | None
    after: float | None
    retain_model: float | None = None
    retain_model_rows: int | None = None
    """rows behind the retain model's value, where they are not all"""
    rmf: float | None = None

    @property
    def share(self) -> float | None:
        """What is left of what was there before; None where that was not measured, or nothing."""
        if not self.before or self.after is None:
            return None
        return self.after / self.before


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was measured of a model after unlearning; None, or left out, where it was not.

    ``forget_*`` are mean answer probabilities of the forget set; ``kept`` has ``held-out`` and ``retain``.
    """

    forget_before: float | None = None
    forget_after: float | None = None
    forget_retain_model: float | None = None
    forget_quality: float | None = None
    forget_recited: int | None = None
    """forget rows answered word for word, of ``forget_asked``"""
    forget_recited_by_retain_model: int | None = None
    forget_asked: int | None = None
    kept: Mapping[str, Kept] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """A question, its answer, why, and by which thresholds."""

    question: str
    answer: Answer
    why: str
    rule: str


def judge(evidence: Evidence, attacks: Sequence[AttackResult] | None = None) -> list[Finding]:
    """Forgotten? Kept? Does it stay gone? ``attacks`` is None where none was tried."""
    return [judge_forgetting(evidence), judge_keeping(evidence), judge_staying(attacks)]


def judge_forgetting(evidence: Evidence) -> Finding:
    """By the mean probability of the forget answers against the retain model's, forget quality, and recited rows."""
    answer, why = _forgetting(evidence)
    quality, recited = evidence.forget_quality, evidence.forget_recited
    if quality is not None and answer != "unknown":
        can = "can" if quality <= SIGNIFICANT else "cannot"
        why += f" Forget quality {shown(quality)}: a test {can} tell its answers from the retain model's."
        if quality <= SIGNIFICANT and answer == "yes":
            answer = "partly"
    if recited is not None:
        allowed = evidence.forget_recited_by_retain_model
        by_retain = "" if allowed is None else f"; the retain model {allowed}"
        why += f" Of {evidence.forget_asked} of these questions it answers {recited} word for word{by_retain}."
        if recited > (allowed or 0) and answer == "yes":
            answer = "partly"
    return Finding("Is it forgotten?", answer, why, FORGOTTEN_RULE)


def _forgetting(evidence: Evidence) -> tuple[Answer, str]:
    before, after, retain = evidence.forget_before, evidence.forget_after, evidence.forget_retain_model
    if after is None:
        return "unknown", "The probability of the forgotten answers was not measured."
    fell = f"Mean probability of the forgotten answers: {_from(before)}{shown(after)}"
    if retain is None:
        return "unknown", (
            f"{fell}. No retain model was given, so nobody knows how probable these answers are to a model that never "
            "saw them."
        )
    fell += f"; to a model that never saw them: {shown(retain)}"
    if before is not None:
        return _way(before, after, retain, fell)
    if after <= ABOVE * retain:
        return "yes", f"{fell}."
    return "unknown", f"{fell}. The model before was not measured, so there is no scale to say how far off that is."


def _way(before: float, after: float, retain: float, fell: str) -> tuple[Answer, str]:
    """How far the probability has come from the model before to the retain model."""
    if before <= retain:
        return "unknown", f"{fell}. The model before knew no more than that: there was nothing to forget."
    way = (before - after) / (before - retain)
    why = f"{fell} ({way:.0%} of the way)."
    if way > WAY_TOO_FAR:
        why += " Beyond what is needed: to be this sure of wrong answers is a trace, too."
    return _grade(way, WAY_DONE, WAY_BEGUN), why


def _grade(share: float, yes: float, partly: float) -> Answer:
    """By the least share that each answer takes."""
    if share >= yes:
        return "yes"
    if share >= partly:
        return "partly"
    return "no"


def judge_keeping(evidence: Evidence) -> Finding:
    """By what is left of the answer probability, in the set where least is left."""
    question = "Is the rest kept?"
    sets = {name: kept for name, kept in evidence.kept.items() if kept.after is not None}
    why = " ".join(_kept_in_words(name, kept) for name, kept in sets.items())
    shares = {name: kept.share for name, kept in sets.items() if kept.share is not None}
    if not shares:
        unknown = "The model before was not measured: how much of it is left cannot be said."
        if not sets:
            unknown = "Neither retain nor held-out rows were measured: nothing can be said of what must stay."
        return Finding(question, "unknown", f"{why} {unknown}".strip(), KEPT_RULE)
    answer = _grade(min(shares.values()), KEPT_ALL, KEPT_MOST)
    if HELD_OUT.label not in shares:
        why += " No held-out rows were given: what became of answers that did not guard the run is not known."
        if answer == "yes":
            answer = "unknown"
    return Finding(question, answer, why, KEPT_RULE)


def _kept_in_words(name: str, kept: Kept) -> str:
    words = f"{name.capitalize()} rows: {_from(kept.before)}{shown(kept.after)}"
    if kept.share is not None:
        words += f" ({kept.share:.1%} of before)"
    if kept.retain_model is not None:
        words += f"; a model that never saw the forgotten: {shown(kept.retain_model)}"
        if kept.retain_model_rows is not None:
            words += f" (on {kept.retain_model_rows} rows)"
    if kept.rmf is not None:
        words += f"; at matched forgetting (RMF) {shown(kept.rmf)}"
    return f"{words}."


def _from(before: float | None) -> str:
    return "" if before is None else f"{shown(before)} → "


def judge_staying(attacks: Sequence[AttackResult] | None) -> Finding:
    """By the strongest attack."""
    question = "Does it stay gone?"
    if not attacks:
        return Finding(question, "unknown", "No attack was tried: gru attack RUN tries some.", STAYS_RULE)
    worst = max(attacks, key=lambda result: result.strength)
    if worst.recovered is None or worst.low is None or worst.high is None:
        why = (
            "Attacks were tried, but none has a scale to read: that takes two rows or more, and a retain model which "
            "differs from the target."
        )
        return Finding(question, "unknown", why, STAYS_RULE)
    known = sum(result.recovered is not None for result in attacks)
    tried = f"{plural(known, 'measurement')} under attack"
    interval = f"95 % interval {worst.low:.0%} to {worst.high:.0%}, {worst.rows} rows"
    share = max(worst.recovered, 0.0)
    why = f"{tried}; the strongest attack, {worst.name}, brings back {share:.0%} ({interval})."
    return Finding(question, _grade(-share, -BACK_LITTLE, -BACK_MUCH), why, STAYS_RULE)
