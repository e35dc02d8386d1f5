"""All that a folder has for its report."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gru_unlearn.results.attack_summary import AttackSummary
from gru_unlearn.results.comparison_summary import ComparisonSummary, DemoSummary
from gru_unlearn.results.evaluation_summary import EvaluationSummary
from gru_unlearn.results.run_summary import RunSummary

Row = Mapping[str, Any]
Reported = RunSummary | DemoSummary | ComparisonSummary | EvaluationSummary | AttackSummary
"""What has a report."""


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
