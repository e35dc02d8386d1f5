"""What people see: tables, charts, verdicts, pages. Never imports torch."""

from gru_unlearn.reporting.tables import evaluation_table, explanation, make_table, run_table, shown

__all__ = [
    "evaluation_table",
    "explanation",
    "make_table",
    "run_table",
    "shown",
]
