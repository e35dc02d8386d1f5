"""Results → ``summary.json`` and tables. Never imports torch."""

from gru_unlearn.reporting.summary import read_json, versions, write_json
from gru_unlearn.reporting.tables import demo_report, evaluation_table, explanation, make_table, run_table, shown

__all__ = [
    "demo_report",
    "evaluation_table",
    "explanation",
    "make_table",
    "read_json",
    "run_table",
    "shown",
    "versions",
    "write_json",
]
