"""Results → ``summary.json`` and tables. Never imports torch."""

from gru_unlearn.reporting.summary import part_of, read_json, versions, write_json, write_text
from gru_unlearn.reporting.tables import demo_report, evaluation_table, explanation, make_table, run_table, shown

__all__ = [
    "demo_report",
    "evaluation_table",
    "explanation",
    "make_table",
    "part_of",
    "read_json",
    "run_table",
    "shown",
    "versions",
    "write_json",
    "write_text",
]
