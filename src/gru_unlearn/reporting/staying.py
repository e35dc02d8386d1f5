"""Does it stay gone? By the strongest of the attacks that were tried."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gru_unlearn.reporting.forgetting import grade, worst
from gru_unlearn.results.attack_summary import AttackResult, Estimate
from gru_unlearn.results.verdict import Answer

BACK_LITTLE, BACK_MUCH = 0.1, 0.5
"""Share that an attack brings back: stays gone up to the first, partly up to the second."""
DEAR = 0.8
"""What relearning costs of the steps of a model that never saw the rows: with less it stays gone in part."""
FOUND = "found"
"""The measure that says of each row whether its answer came back, as a whole and in order."""
TOLD_APART = "told apart"
"""The measure of a linear probe on hidden states: a trace that brings no answer out, by few rows, and no verdict."""

ItWas = Literal["gone", "there", "unknown"]
"""Where the answers were: removed at least in part, still in the model, or never known to it."""


@dataclass(frozen=True, slots=True)
class Staying:
    """The answer, and the attacks that decided it."""

    answer: Answer
    tried: int = 0
    """attacks, each in its forms"""
    strongest: AttackResult | None = None
    """by the share brought back beyond the zero line; None where none has a scale"""
    most_found: AttackResult | None = None
    """by answers that came back; None where none was looked for"""
    unread: int = 0
    """attacks that only a model which never saw the rows could give a scale, where there is none"""
    cost: Estimate | None = None
    """steps to win half back, as a multiple of the other model's; None where it was not measured"""
    no_scale: bool = False
    """whether answers did not come back, and nothing says what that is worth"""
    beside_base: bool = False
    """whether the base stands in for a retain model"""
    it_was: ItWas = "gone"
    """before the attacks: what never went cannot come back"""
    guessed: int = 0
    """answers that came of one attack, where none brought more than from a model that never saw them"""

    @property
    def came_back(self) -> int | None:
        """Answers that the best attack brought back, of the rows that it was tried on."""
        return None if self.most_found is None else count_found(self.most_found)


def judge_staying(attacks: Sequence[AttackResult] | None, cost: Estimate | None = None) -> Staying:
    """Whether an attack brings back what was forgotten.

    Args:
        attacks: None where none was tried.
        cost: of relearning; None where it was not measured.
    """
    if not attacks:
        return Staying("unknown")
    tried = len({result.name for result in attacks})
    scaled = [one for one in attacks if one.recovered is not None and one.measure != TOLD_APART]
    strongest = max(scaled, key=_strength, default=None)
    found = [result for result in attacks if result.measure == FOUND and result.rows]
    most = max(found, key=_share_found, default=None)
    answers: list[Answer] = []
    if strongest is not None:
        answers.append(_grade(strongest.strength))
    if most is not None:
        answers.append(_grade(_share_found(most)))
    if cost is not None and cost.value is not None and cost.value < DEAR:
        answers.append("partly")
    unread = _count_unread(attacks)
    no_scale = strongest is None and worst(answers) == "yes"
    if no_scale or (unread and worst(answers) == "yes"):
        answers.append("unknown")
    beside_base = strongest is not None and strongest.zero_line == "base"
    guessed = 0
    if most is not None and not count_found(most):
        guessed = max(count_found(result) for result in found)
    return Staying(worst(answers), tried, strongest, most, unread, cost, no_scale, beside_base, guessed=guessed)


def _count_unread(attacks: Sequence[AttackResult]) -> int:
    """Attacks without a zero line that looked for no answers as a whole: some of it may have come back."""
    looked_for = {result.name for result in attacks if result.measure == FOUND}
    others = {result.name for result in attacks if result.zero is None and result.recovered is None}
    return len(others - looked_for)


def count_found(result: AttackResult) -> int:
    """Answers that came back."""
    return round(result.unlearned * result.rows)


def _strength(result: AttackResult) -> float:
    return result.strength


def _share_found(result: AttackResult) -> float:
    """Of the answers, beyond those that a model which never saw them finds under the same attack."""
    return result.unlearned - (result.zero or 0.0)


def _grade(brought_back: float) -> Answer:
    return grade(-brought_back, -BACK_LITTLE, -BACK_MUCH)
