"""Single rows for a report: what was probable and said before and after, word by word against the true answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import chain
from unicodedata import normalize

from gru_unlearn.common.words import piece_spans, pieces
from gru_unlearn.results.row_examples import ExampleRow, Examples, ExampleSet
from gru_unlearn.results.row_kinds import label_of

Part = tuple[str, str]
"""same, gone (only in the true answer) or new (only in what was said); the words."""

BEFORE, RETAIN_MODEL = "before", "retain model"
"""Columns beside those of the runs."""

ON_PAPER = 20
"""Rows of each set that are printed; a screen has all of them."""


@dataclass(frozen=True, slots=True)
class ExampleLine:
    """One row of a set, by every model in question."""

    set: str
    number: int
    question: str
    """or the beginning of a plain text"""
    answer: str
    """or how the text goes on; the whole text where nobody continued it"""
    values: Sequence[float | None]
    """probability of the true answer, one for each column of the table"""
    off_by: float | None
    """forget: how much more probable than to the retain model; kept: how much less than before; the worst run's"""
    says: Sequence[tuple[str, Sequence[Part]]]
    """model → what it answers, or how it continues a text; no parts: word for word the true answer"""
    place: int = 0
    """in its set, the worst first"""


@dataclass(frozen=True, slots=True)
class ExampleTable:
    """Rows, worst first within each set."""

    columns: Sequence[str]
    rows: Sequence[ExampleLine]
    sets: Mapping[str, str]
    """name → label, with the numbers of rows shown and there"""
    generated: bool

    @property
    def left_off_paper(self) -> int:
        """How many rows are not printed."""
        return sum(row.place > ON_PAPER for row in self.rows)


def example_table(runs: Mapping[str, Examples | None]) -> ExampleTable | None:
    """The table of runs over the same rows, by the headings of their columns. Moments that nobody saw are left out."""
    kept = {run: examples for run, examples in runs.items() if examples is not None}
    if not kept:
        return None
    columns = _columns(kept)
    rows, labels = [], {}
    for name, part in next(iter(kept.values())).sets.items():
        lines = []
        for versions in zip(*(examples.sets[name].rows for examples in kept.values()), strict=True):
            lines.append(_line_of_row(name, dict(zip(kept, versions, strict=True)), columns))
        lines.sort(key=lambda line: -1.0 if line.off_by is None else -line.off_by)
        rows += [replace(line, place=place) for place, line in enumerate(lines, start=1)]
        labels[name] = _label(name, part)
    return ExampleTable(columns, rows, labels, any(examples.generated for examples in kept.values()))


def _columns(runs: Mapping[str, Examples]) -> list[str]:
    columns = list(runs)
    parts = chain.from_iterable(examples.sets.values() for examples in runs.values())
    rows = list(chain.from_iterable(part.rows for part in parts))
    if any(row.before for row in rows):
        columns.insert(0, BEFORE)
    if any(row.retain_model for row in rows):
        columns.append(RETAIN_MODEL)
    return columns


def _label(name: str, part: ExampleSet) -> str:
    count = len(part.rows)
    shown = str(count) if count == part.rows_in_set else f"{count} of {part.rows_in_set}"
    return f"{label_of(name)} ({shown})"


def _line_of_row(name: str, versions: Mapping[str, ExampleRow], columns: Sequence[str]) -> ExampleLine:
    any_run = next(iter(versions.values()))
    moments = {BEFORE: any_run.before, **{run: row.after for run, row in versions.items()}}
    moments[RETAIN_MODEL] = any_run.retain_model
    seen = {label: one for label, one in moments.items() if one is not None}
    values = {label: one.probability for label, one in seen.items()}
    off = [off_by(name, values.get(BEFORE), values.get(run), values.get(RETAIN_MODEL)) for run in versions]
    said = {label: one.says for label, one in seen.items() if one.says is not None}
    return ExampleLine(
        name,
        any_run.row + 1,
        any_run.question,
        any_run.due,
        [values.get(column) for column in columns],
        max((value for value in off if value is not None), default=None),
        [(label, word_diff(any_run.due, says)) for label, says in said.items()],
    )


def off_by(name: str, before: float | None, after: float | None, retain: float | None) -> float | None:
    """How far a row is from where it should be; None where there is nothing to compare with.

    A forget row should be as probable as to the retain model, or not at all where there is none. A row of any other
    set should be as probable as before, or as to the retain model where the model before is unknown.
    """
    if after is None:
        return None
    if name.startswith("forget"):
        return after - (retain or 0.0)
    if before is not None:
        return before - after
    if retain is not None:
        return retain - after
    return None


def word_diff(truth: str, said: str) -> list[Part]:
    """What was said beside the true answer, word by word; empty where they are the same."""
    truth, said = normalize("NFC", truth), normalize("NFC", said)
    old, new = pieces(truth), pieces(said)
    if old == new:
        return []
    parts: list[Part] = []
    for kind, start, end, new_start, new_end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        true, different = _between(truth, start, end), _between(said, new_start, new_end)
        if kind == "equal":
            parts.append(("same", true))
            continue
        if true:
            parts.append(("gone", true))
        if different:
            parts.append(("new", different))
    return parts


def _between(text: str, start: int, end: int) -> str:
    """A text's pieces from one to before another, as they stand there, with one blank where there are some."""
    spans = piece_spans(text)[start:end]
    if not spans:
        return ""
    return " ".join(text[spans[0][0] : spans[-1][1]].split())
