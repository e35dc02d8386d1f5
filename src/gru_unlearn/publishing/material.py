"""All that a folder has for its report."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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
