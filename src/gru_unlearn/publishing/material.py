"""All that a folder has for its report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import JsonValue

from gru_unlearn.benchmark.evaluated_rows import Tables
from gru_unlearn.common.explanation import Explanation
from gru_unlearn.evaluation.measure import Metric
from gru_unlearn.results.attack_summary import AttackResult, AttackSummary, Estimate
from gru_unlearn.results.comparison_summary import ComparisonSummary, DemoSummary
from gru_unlearn.results.evaluation_summary import EvaluationSummary
from gru_unlearn.results.ledger_summary import LedgerSummary
from gru_unlearn.results.row_examples import Examples
from gru_unlearn.results.run_summary import RunSummary, TruSummary

Reported = RunSummary | TruSummary | DemoSummary | ComparisonSummary | EvaluationSummary | AttackSummary | LedgerSummary
"""What has a report."""

Explained = Mapping[str, Metric | Explanation]
"""Metric → what it means."""


class KeptRun(NamedTuple):
    """A run of a demonstration."""

    summary: RunSummary
    examples: Examples | None


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What whoever makes a report may say of it."""

    request: str = ""
    """which request it answers; empty: a line to fill in"""
    responsible: str = ""
    """who answers for it; likewise"""
    rows: bool = True
    """whether single rows stand in it, in plain text"""


@dataclass(frozen=True, slots=True)
class Material:
    """All that a report is made from; what a folder lacks is empty or None."""

    folder: str
    summary: Reported
    content: JsonValue = None
    """the summary as it stands in its file"""
    given: Mapping[str, JsonValue] = field(default_factory=dict)
    """settings of a run that were not left to their defaults"""
    examples: Examples | None = None
    attack: AttackSummary | None = None
    """on this run"""
    runs: Mapping[str, KeptRun] = field(default_factory=dict)
    """of a demonstration, by their names there"""
    metrics: Explained = field(default_factory=dict)
    tables: Tables = field(default_factory=dict)
    """of an evaluation: its scores"""
    when: str = ""
    summary_sha256: str = ""
    """of the summary's file"""
    options: ReportOptions = field(default_factory=ReportOptions)

    @property
    def tried(self) -> tuple[Sequence[AttackResult] | None, Estimate | None]:
        """What a verdict asks of the attack on this run."""
        if self.attack is None:
            return None, None
        return self.attack.attacks, self.attack.relearning_cost
