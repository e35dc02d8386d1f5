"""The rows of a run, on which its patch is measured: read again, and the same as then."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from gru_unlearn.common.sequences import evenly_spread
from gru_unlearn.data import Record, fingerprint, load_records
from gru_unlearn.errors import UserError
from gru_unlearn.results.row_kinds import ROW_KINDS
from gru_unlearn.results.run_summary import RunRecord

MOST_ROWS = 100
"""Of each set; more are taken evenly spread."""


def rows_of_run(run: RunRecord, folder: Path) -> Mapping[str, Sequence[Record]]:
    """Forget, retain and held-out rows, by their names in files.

    Args:
        run: says where they are.
        folder: of the run, beside which those are that it found by itself.

    Raises:
        UserError: they are not there any more, or are others.
    """
    found = {}
    for kind in ROW_KINDS:
        had = run.data.get(kind.key)
        if had is None:
            continue
        place = had.place_beside(folder)
        if place is None:
            continue
        try:
            records = load_records(place)
        except UserError as error:
            raise UserError(f"--patch is measured on the run's rows: {error}") from None
        if fingerprint(records) != had.sha256:
            raise UserError(
                f"--patch is measured on the run's rows: {place} does not hold the {kind.label} rows of the run "
                "any more"
            )
        found[kind.key] = evenly_spread(records, MOST_ROWS)
    return found
