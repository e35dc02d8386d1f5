"""A verdict for the terminal: the sentence first, then numbers, then what may be stated and what not."""

from collections.abc import Iterator, Mapping

from gru_unlearn.results.verdict import Verdict

ANSWERS = {"yes": ("✓", "Yes"), "partly": ("◐", "Partly"), "no": ("✗", "No"), "unknown": ("?", "Cannot be said")}
"""Answer → its sign and its word."""


def verdict_lines(verdict: Verdict) -> Iterator[str]:
    """Line by line."""
    yield verdict.sentence
    yield answers_line(verdict)
    yield from (f"  {line}" for line in verdict.numbers)
    yield from (f"  May be stated: {line}" for line in verdict.may_state)
    yield from (f"  May not be stated: {line}" for line in verdict.may_not_state)


def answers_line(verdict: Verdict) -> str:
    """The three answers, and what has a word of its own."""
    asked = {"forgotten": verdict.forgotten, "kept": verdict.kept, "stays gone": verdict.stays_gone}
    told = []
    for what, answer in asked.items():
        sign, word = ANSWERS[answer]
        told.append(f"{sign} {what}: {word.lower()}")
    return " · ".join([*told, *verdict.remarks])


def verdicts_lines(verdicts: Mapping[str, Verdict | None]) -> Iterator[str]:
    """Of several models, a sentence each."""
    for name, verdict in verdicts.items():
        if verdict is not None:
            yield f"{ANSWERS[verdict.forgotten][0]} {name}: {verdict.sentence}"
