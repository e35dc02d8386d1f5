"""Which page belongs to which folder."""

from typing import get_args

from gru_unlearn.publishing.attack_page import attack_page
from gru_unlearn.publishing.comparison_page import compare_page, demo_page
from gru_unlearn.publishing.evaluation_page import evaluation_page
from gru_unlearn.publishing.material import Material, Reported
from gru_unlearn.publishing.run_page import run_page
from gru_unlearn.reporting.parts import Page
from gru_unlearn.results.attack_summary import AttackSummary
from gru_unlearn.results.comparison_summary import ComparisonSummary, DemoSummary
from gru_unlearn.results.evaluation_summary import EvaluationSummary

REPORTED = tuple(kind.model_fields["command"].default for kind in get_args(Reported))
"""The commands whose folders have a report."""


def make_page(material: Material) -> Page:
    """The page for a folder's kind."""
    summary = material.summary
    if isinstance(summary, DemoSummary):
        return demo_page(summary, material)
    if isinstance(summary, ComparisonSummary):
        return compare_page(summary, material)
    if isinstance(summary, EvaluationSummary):
        return evaluation_page(summary, material)
    if isinstance(summary, AttackSummary):
        return attack_page(summary, material)
    return run_page(summary, material)
