"""What people see: tables, charts, verdicts, pages. Never imports torch."""

from gru_unlearn.reporting.tables import demo_report, make_table, shown

__all__ = ["demo_report", "make_table", "shown"]
