"""What a report's page is made of, as plain data.

A page is a list of sections; a section has figures and tables. Nothing here knows HTML beyond the figures' SVG.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.table import Table

from gru_unlearn.reporting.example_table import ExampleTable
from gru_unlearn.reporting.judge import Finding
from gru_unlearn.results.verdict import Verdict


@dataclass(frozen=True, slots=True)
class TableData:
    """A table; ``keys`` are the columns of text, the others hold numbers."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    keys: int = 1


FOLDED = "These numbers"
"""Title of a table that is shown on demand."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing, and its numbers as a table. The figures of a section share its legend."""

    svg: str
    data: TableData | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page with a heading of its own. ``legend``: name → look."""

    id: str
    title: str
    intro: str = ""
    figures: Sequence[Figure] = ()
    legend: Mapping[str, int] = field(default_factory=dict)
    tables: Sequence[TableData] = ()
    pairs: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Brief:
    """The first two pages of a report, for whoever answers for a removal: beside the verdict, in plain words."""

    request: str
    """which request it was; empty: to be filled in by hand"""
    responsible: str
    """who answers for it; likewise"""
    facts: Mapping[str, str]
    """what was to be removed, what was done, what it cost, what was tried to bring it back"""
    hashes: Mapping[str, str]
    """what it was done with → SHA-256"""
    picture: Figure | None = None
    picture_note: tuple[str, str] | None = None
    """the bar beside before and after, and what it is"""


@dataclass(frozen=True, slots=True)
class Page:
    """A whole report."""

    title: str
    facts: Mapping[str, str]
    findings: Sequence[Finding] = ()
    """of a single model"""
    verdict: Verdict | None = None
    """its sentence, and what may be stated; of several models what theirs come to together"""
    told: Sequence[str] = ()
    """sentences that belong to it"""
    judged: Mapping[str, Verdict] = field(default_factory=dict)
    """of several, by name"""
    brief: Brief | None = None
    sections: Sequence[Section] = ()
    examples: ExampleTable | None = None
    invented: bool = False
    """whether the people in the rows are: those of the built-in benchmark"""
    record: Sequence[Section] = ()


def from_rich(table: Table) -> TableData:
    """A terminal's table as data."""
    rows = zip(*(map(str, column.cells) for column in table.columns), strict=True)
    return TableData(
        [str(column.header) for column in table.columns], [list(row) for row in rows], str(table.title or "")
    )
