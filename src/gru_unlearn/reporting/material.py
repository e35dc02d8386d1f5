"""What goes into a report and what it is made of, as plain data.

A page is a list of sections; a section has figures and tables. Nothing here knows HTML beyond the figures' SVG.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from gru_unlearn.reporting.examples import ExampleTable
from gru_unlearn.reporting.verdict import Finding

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Material:
    """All that a report is made from; what a folder lacks is empty or None."""

    folder: str
    summary: Row
    explicit: Row = field(default_factory=dict)
    """settings that were not left to their defaults"""
    examples: Row | None = None
    attack: Row | None = None
    """summary of the attacks on this run"""
    runs: Mapping[str, "Material"] = field(default_factory=dict)
    """of a demonstration, by their names there"""
    metrics: Mapping[str, Row] = field(default_factory=dict)
    """metric → definition, range, better and source"""
    forget_retain_model: float | None = None
    """for evaluations: the retain model's mean probability of the forget answers"""
    when: str = ""


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
class Page:
    """A whole report."""

    title: str
    facts: Mapping[str, str]
    findings: Sequence[Finding] = ()
    """of a single model"""
    judged: Mapping[str, Sequence[Finding]] = field(default_factory=dict)
    """of several, by name"""
    sections: Sequence[Section] = ()
    examples: ExampleTable | None = None
    record: Sequence[Section] = ()


def from_rich(table: Table, title: str | None = None) -> TableData:
    """A terminal's table as data."""
    rows = zip(*(map(str, column.cells) for column in table.columns), strict=True)
    name = str(table.title or "") if title is None else title
    return TableData([str(column.header) for column in table.columns], [list(row) for row in rows], title=name)
