"""The kinds of cost that a run has, and what each is called: along the run, at f*, and for people."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CostKind:
    """One way to say what a run took."""

    equal: str
    """value of ``--equal`` that holds it equal; empty where none does"""
    label: str
    """for people"""
    along: str
    """key of an evaluation along a run"""
    key: str
    """key of the cost at f*"""
    form: str
    """how many digits it is shown with"""


STEPS = CostKind("", "steps", "step", "cost_steps", ".1f")
"""The optimizer's steps."""
ROWS = CostKind("passes", "row passes", "rows", "cost_rows", ".0f")
"""Rows that passed through the model."""
SECONDS = CostKind("time", "seconds", "seconds", "cost_seconds", ".1f")
"""Of the steps alone."""

COSTS = (STEPS, ROWS, SECONDS)


def cost_held_equal(what: str) -> CostKind:
    """By the value of ``--equal``; rows of a step are no cost."""
    return next(cost for cost in COSTS if cost.equal == what)
