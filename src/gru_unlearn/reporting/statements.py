"""What a verdict lets its reader state, and what it does not."""

import math
from collections.abc import Mapping, Sequence

from gru_unlearn.reporting import remarks
from gru_unlearn.reporting.forgetting import Forgetting
from gru_unlearn.reporting.keeping import Keeping
from gru_unlearn.reporting.row_words import QUESTIONS, RowWords
from gru_unlearn.reporting.staying import Staying

_OF_FORGETTING = {
    "yes": "no longer bring the removed {due} out, no more than from a model that never saw the rows.",
    "partly": "bring less of the removed {due} out than before, or make them less probable, but not enough to call "
    "them removed.",
}
_STILL_KNOWN = "It was tried to remove the rows, and the model still knows them."
_OF_ANY_MODEL = {
    "yes": "do not bring {of_forget_rows} out, no more than from a model that never saw the rows.",
    "partly": "bring some of {of_forget_rows} out.",
}
"""the same where nobody is known to have removed anything"""
_APART = {remarks.OVERSHOOT, remarks.TOLD_APART}
"""what tells a model from one that never saw the rows"""
_WITHOUT_RETAIN_MODEL = "no longer bring the removed {due} out, by the marks that were read."
_OF_ANY_WITHOUT_RETAIN_MODEL = "do not bring {of_forget_rows} out, by the marks that were read."


def may_state(forgetting: Forgetting, keeping: Keeping, staying: Staying, words: RowWords, *, tried: bool) -> list[str]:
    """Sentences that the numbers carry; ``tried``: whether somebody is known to have removed the rows."""
    stated = []
    if forgetting.answer in _OF_FORGETTING:
        stated.append(f"{words.stated} {_what_they_bring(forgetting, words, tried=tried)}")
    if forgetting.answer == "no":
        stated.append(_STILL_KNOWN if tried else "The model knows the rows.")
    if remarks.NEVER_KNOWN in forgetting.remarks:
        stated.append("The model gave no sign of knowing the rows, neither before nor after.")
    if keeping.answer == "yes":
        measured = "the model's own answers to other questions" if keeping.made else "what was measured of the rest"
        stated.append(f"Of {measured}, at least {_at_least(keeping.share)} is left.")
    if staying.answer == "yes":
        stated.append("The attacks that were tried brought back little or nothing.")
    return stated


def _what_they_bring(forgetting: Forgetting, words: RowWords, *, tried: bool) -> str:
    told, without = _OF_ANY_MODEL, _OF_ANY_WITHOUT_RETAIN_MODEL
    if tried:
        told, without = _OF_FORGETTING, _WITHOUT_RETAIN_MODEL
    sentence = told[forgetting.answer]
    if forgetting.answer == "yes" and remarks.NO_RETAIN_MODEL in forgetting.remarks:
        sentence = without
    return sentence.format(due=words.due, of_forget_rows=words.of_forget_rows)


def _at_least(share: float | None) -> str:
    """Rounded down, because it will be signed; what became more probable is left as a whole."""
    tenths = math.floor(1000 * min(share or 0.0, 1.0)) / 10
    return f"{tenths:g}%"


def _why_it_may_come_back(forgetting: Forgetting, staying: Staying) -> str:
    if staying.tried == 0:
        return "nobody tried"
    if remarks.NEVER_KNOWN in forgetting.remarks:
        return "nothing was there that could come back"
    if forgetting.answer == "no":
        return "it is still there"
    return "attacks bring some of it back, or could not be read"


def may_not_state(forgetting: Forgetting, keeping: Keeping, staying: Staying, words: RowWords) -> list[str]:
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
    if words is not QUESTIONS:
        refused.append("That no other part of a text comes out: of each, what follows its beginning was looked at.")
    if staying.answer != "yes":
        refused.append(f"That it cannot be brought back: {_why_it_may_come_back(forgetting, staying)}.")
    if keeping.answer != "yes":
        refused.append("That the rest of what the model can do is unharmed.")
    elif keeping.made:
        refused.append(
            "That what you want kept is unharmed: nobody named it, and rows that the model made itself stood for it."
        )
    return [*refused, "That the rows are gone from the weights for good: no such number proves that."]


def said_of_all(said: Mapping[str, Sequence[str]]) -> list[str]:
    """Of several models' sentences, by the models' names, those that hold of every one."""
    return [line for line, names in _whose(said).items() if len(names) == len(said)]


def said_of_any(said: Mapping[str, Sequence[str]]) -> list[str]:
    """Those that hold of some, with their names; then those that hold of every one."""
    some = [f"{line} ({', '.join(names)})" for line, names in _whose(said).items() if len(names) < len(said)]
    return [*some, *said_of_all(said)]


def _whose(said: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Sentence → the models of which it is said."""
    whose: dict[str, list[str]] = {}
    for name, lines in said.items():
        for line in lines:
            whose.setdefault(line, []).append(name)
    return whose
