"""What people see: tables, charts, verdicts, pages. Never imports torch."""

from gru_unlearn.reporting.tables import make_table, shown

__all__ = ["make_table", "shown"]
