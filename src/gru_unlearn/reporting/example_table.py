"""Single rows for a report: what was probable and said before and after, word by word against the true answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

SET_LABELS = {"forget": "forget", "retain": "retain", "held_out": "held-out"}

Part = tuple[str, str]
"""same, gone (only in the true answer) or new (only in what was said); the words."""


@dataclass(frozen=True, slots=True)
class ExampleRow:
    """One row of a set, by every model in question."""

    set: str
    number: int
    question: str
    answer: str
    values: Sequence[float | None]
    """probability of the true answer, one for each column of the table"""
    off_by: float | None
    """forget: how much more probable than to the retain model; kept: how much less than before; the worst run's"""
    says: Sequence[tuple[str, Sequence[Part]]]
    """model → what it answers; no parts: word for word the true answer"""


@dataclass(frozen=True, slots=True)
class ExampleTable:
    """Rows, worst first within each set."""

    columns: Sequence[str]
    rows: Sequence[ExampleRow]
    sets: Mapping[str, str]
    """name → label, with the numbers of rows shown and there"""
    generated: bool


def example_table(runs: Mapping[str, Mapping[str, Any]]) -> ExampleTable | None:
    """The table of one run or of several over the same rows.

    Args:
        runs: heading of the run's column → content of its ``examples.json``. Moments that nobody saw are left out.
    """
    if not runs:
        return None
    first = next(iter(runs.values()))
    found = [row for content in runs.values() for part in content["sets"].values() for row in part["rows"]]
    columns = {moment: moment.replace("_", " ") for moment in ("before", "retain_model") if _any(found, moment)}
    headings = [columns.get("before"), *runs, columns.get("retain_model")]
    rows = [
        row
        for name, part in first["sets"].items()
        for row in sorted(
            (_row(name, number, runs, columns) for number in range(len(part["rows"]))),
            key=lambda row: -1.0 if row.off_by is None else -row.off_by,
        )
    ]
    return ExampleTable(
        [heading for heading in headings if heading],
        rows,
        {name: _label(name, part) for name, part in first["sets"].items()},
        any(content.get("generated") for content in runs.values()),
    )


def _any(rows: Sequence[Mapping[str, Any]], moment: str) -> bool:
    return any(row.get(moment) for row in rows)


def _label(name: str, part: Mapping[str, Any]) -> str:
    count, all_rows = len(part["rows"]), part["rows_in_set"]
    label = SET_LABELS.get(name, name)
    return f"{label} ({count})" if count == all_rows else f"{label} ({count} of {all_rows})"


def _row(name: str, number: int, runs: Mapping[str, Mapping[str, Any]], columns: Mapping[str, str]) -> ExampleRow:
    versions = {label: content["sets"][name]["rows"][number] for label, content in runs.items()}
    any_run = next(iter(versions.values()))
    before, retain = (_value(any_run, moment) for moment in ("before", "retain_model"))
    after = [_value(row, "after") for row in versions.values()]
    values = [*([before] if "before" in columns else []), *after, *([retain] if "retain_model" in columns else [])]
    said = {"before": any_run.get("before")} | {label: row.get("after") for label, row in versions.items()}
    said |= {"retain model": any_run.get("retain_model")}
    answer = any_run["answer"]
    return ExampleRow(
        name,
        any_run["row"] + 1,
        any_run["question"],
        answer,
        values,
        max((off for one in after if (off := off_by(name, before, one, retain)) is not None), default=None),
        [(label, word_diff(answer, seen["says"])) for label, seen in said.items() if seen and "says" in seen],
    )


def _value(row: Mapping[str, Any], moment: str) -> float | None:
    return (row.get(moment) or {}).get("probability")


def off_by(name: str, before: float | None, after: float | None, retain: float | None) -> float | None:
    """How far a row is from where it should be; None where there is nothing to compare with.

    A forget row should be as probable as to the retain model, or not at all where there is none. A row of any other
    set should be as probable as before, or as to the retain model where the model before is unknown.
    """
    if after is None:
        return None
    if name.startswith("forget"):
        return after - (retain or 0.0)
    due = retain if before is None else before
    return None if due is None else due - after


def word_diff(truth: str, said: str) -> list[Part]:
    """What was said beside the true answer, word by word; empty where they are the same."""
    old, new = truth.split(), said.split()
    if old == new:
        return []
    parts: list[Part] = []
    for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            parts.append(("same", " ".join(old[a:b])))
            continue
        parts += [("gone", " ".join(old[a:b]))] if b > a else []
        parts += [("new", " ".join(new[c:d]))] if d > c else []
    return parts
