"""Is the rest kept? By what is left of the answer probability, in the set where least is left."""

from dataclasses import dataclass

from gru_unlearn.reporting.evidence import Evidence
from gru_unlearn.reporting.forgetting import grade
from gru_unlearn.results.row_kinds import HELD_OUT
from gru_unlearn.results.verdict import Answer

KEPT_ALL, KEPT_MOST = 0.95, 0.8
"""Share of what it was before: kept from the first, partly from the second on."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """The answer, and what decided it."""

    answer: Answer
    share: float | None = None
    """the least of the sets"""
    has_held_out: bool = False
    measured: bool = True
    broken: tuple[str, ...] = ()
    """sets whose answers are mostly none any more"""
    made: bool = False
    """whether all of it was measured on rows that the model made itself"""


def judge_keeping(evidence: Evidence) -> Keeping:
    """Whether what must stay has stayed."""
    sets = {name: kept for name, kept in evidence.kept.items() if kept.after is not None}
    shares = {name: kept.share for name, kept in sets.items() if kept.share is not None}
    broken = tuple(name for name, kept in sets.items() if kept.is_broken)
    if broken:
        return Keeping("no", min(shares.values(), default=None), HELD_OUT.label in shares, broken=broken)
    if not shares:
        return Keeping("unknown", measured=bool(sets))
    least, made = min(shares.values()), all(kept.made for kept in sets.values())
    answer = grade(least, KEPT_ALL, KEPT_MOST)
    if answer == "yes" and HELD_OUT.label not in shares:
        answer = "unknown"
    return Keeping(answer, least, HELD_OUT.label in shares, made=made)
