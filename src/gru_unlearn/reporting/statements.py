"""What a verdict lets its reader state, and what it does not."""

import math

from gru_unlearn.reporting import remarks
from gru_unlearn.reporting.forgetting import Forgetting
from gru_unlearn.reporting.keeping import Keeping
from gru_unlearn.reporting.staying import Staying

AS_WORDED = "These questions, as they are worded,"

_OF_FORGETTING = {
    "yes": "no longer bring the removed answers out, no more than from a model that never saw the rows.",
    "partly": "bring less of the removed answers out than before, or make them less probable, but not enough to call "
    "them removed.",
}
_APART = {remarks.OVERSHOOT, remarks.TOLD_APART}
"""what tells a model from one that never saw the rows"""
_WITHOUT_RETAIN_MODEL = "no longer bring the removed answers out, by the marks that were read."


def may_state(forgetting: Forgetting, keeping: Keeping, staying: Staying) -> list[str]:
    """Sentences that the numbers carry."""
    stated = []
    if forgetting.answer in _OF_FORGETTING:
        lacks_yardstick = forgetting.answer == "yes" and remarks.NO_RETAIN_MODEL in forgetting.remarks
        told = _WITHOUT_RETAIN_MODEL if lacks_yardstick else _OF_FORGETTING[forgetting.answer]
        stated.append(f"{AS_WORDED} {told}")
    if forgetting.answer == "no":
        stated.append("It was tried to remove the rows, and the model still knows them.")
    if remarks.NEVER_KNOWN in forgetting.remarks:
        stated.append("The model gave no sign of knowing the rows, neither before nor after.")
    if keeping.answer == "yes":
        measured = "the model's own answers to other questions" if keeping.made else "what was measured of the rest"
        stated.append(f"Of {measured}, at least {_at_least(keeping.share)} is left.")
    if staying.answer == "yes":
        stated.append("The attacks that were tried brought back little or nothing.")
    return stated


def _at_least(share: float | None) -> str:
    """Rounded down, because it will be signed."""
    tenths = math.floor(1000 * (share or 0.0)) / 10
    return f"{tenths:g}%"


def _why_it_may_come_back(forgetting: Forgetting, staying: Staying) -> str:
    if staying.tried == 0:
        return "nobody tried"
    if remarks.NEVER_KNOWN in forgetting.remarks:
        return "nothing was there that could come back"
    if forgetting.answer == "no":
        return "it is still there"
    return "attacks bring some of it back, or could not be read"


def may_not_state(forgetting: Forgetting, keeping: Keeping, staying: Staying) -> list[str]:
    """Sentences that the numbers do not carry, though they are near."""
    refused = []
    if forgetting.answer != "yes":
        refused.append("That the rows were removed.")
    if remarks.NO_RETAIN_MODEL in forgetting.remarks:
        refused.append(
            "That the model is as if it had never seen the rows, neither too much nor too little: no such model was at "
            "hand to compare with."
        )
    if _APART.intersection(forgetting.remarks):
        refused.append("That the model is as if it had never seen the rows: it differs from such a model.")
    if remarks.NOT_ASKED in forgetting.remarks:
        refused.append("That no answer comes out word for word: nobody looked.")
    if staying.answer != "yes":
        refused.append(f"That it cannot be brought back: {_why_it_may_come_back(forgetting, staying)}.")
    if keeping.answer in ("unknown", "no"):
        refused.append("That the rest of what the model can do is unharmed.")
    elif keeping.made:
        refused.append(
            "That what you want kept is unharmed: nobody named it, and rows that the model made itself stood for it."
        )
    return [*refused, "That the rows are gone from the weights for good: no such number proves that."]
