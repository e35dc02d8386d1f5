"""Results → ``summary.json`` and tables. Never imports torch."""

from gru_unlearn.reporting.summary import read_json, versions, write_json
from gru_unlearn.reporting.tables import results_table, run_table, shown

__all__ = ["read_json", "results_table", "run_table", "shown", "versions", "write_json"]
