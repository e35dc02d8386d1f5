"""Requests come in, are tried again, or are taken back."""

import re
from collections.abc import Collection
from datetime import UTC, date, datetime
from pathlib import Path

from gru_unlearn.data import fingerprint, load_records
from gru_unlearn.errors import UserError
from gru_unlearn.ledger.adoption import hashes_of
from gru_unlearn.ledger.database import Ledger, sole_use
from gru_unlearn.ledger.ledger_setup import absolute, recipe_for
from gru_unlearn.results.ledger_summary import DeletionRequest, Outcome
from gru_unlearn.results.row_kinds import HELD_OUT, RETAIN
from gru_unlearn.runs.run_preparation import Prepared, prepare


def add_request(
    folder: Path, source: str, *, id: str | None = None, reason: str = "", received: str | None = None
) -> tuple[DeletionRequest, list[str]]:
    """Append a request; everything about it that can be checked before its run is checked now.

    Args:
        source: the rows to forget; the ledger keeps where they are, never the rows.
        id: letters, digits, ``.``, ``_`` and ``-``; by default its number.
        reason: kept in the ledger as it is.
        received: day on which the request came, ``2025-03-31``; by default today.

    Returns:
        The request, and remarks about its rows for whoever added it.

    Raises:
        UserError: no such rows, rows that were all requested before, a bad id or date, rows that do not fit the model.
    """
    with Ledger.open(folder) as ledger:
        id, day = _checked_id(id), _day(received)
        records = load_records(source)
        key, named = ledger.key, ledger.named_rows()
        hashes = [hashes_of(key, record) for record in records]
        asked = DeletionRequest(
            id=id, date=day, reason=reason, source=absolute(source), rows=len(records), data_sha256=fingerprint(records)
        )
        earlier = sum(not of_row.isdisjoint(named) for of_row in hashes)
        if earlier == len(records):
            same = [f" (request {one.id})" for one in ledger.requests() if one.data_sha256 == asked.data_sha256]
            raise UserError(
                f"{source}: all {len(records)} rows were requested before{''.join(same[:1])}, nothing was added"
            )

        unused = folder / "versions" / "not yet"
        prepared = prepare(recipe_for(ledger.settings().unlearning, str(ledger.newest_model().source), source, unused))
        remarks = _overlaps(prepared, set().union(*hashes), key)
        if earlier:
            remarks.insert(0, f"{earlier} of {len(records)} rows were requested before.")
        return ledger.add(asked, set().union(*hashes)), remarks


def _checked_id(id: str | None) -> str:
    """As given; empty where the ledger is to give one."""
    if id is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", id):
        raise UserError(f"--id {id!r}: use at most 64 letters, digits, dots, underscores and hyphens")
    return id or ""


def _day(text: str | None) -> str:
    if text is None:
        return datetime.now(UTC).date().isoformat()
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise UserError(f"--date {text}: expected a day such as 2025-03-31") from None


def _overlaps(prepared: Prepared, hashes: Collection[str], key: bytes) -> list[str]:
    """Which of the rows stand among those to keep."""
    remarks = []
    for kind in (RETAIN, HELD_OUT):
        both = sum(not hashes_of(key, record).isdisjoint(hashes) for record in prepared.sets.get(kind.key, ()))
        if both:
            remarks.append(f"{both} rows are in the {kind.label} set too: runs leave them out of it from now on.")
    return remarks


def retry_request(folder: Path, id: str) -> DeletionRequest:
    """A request that was refused, failed or died while running is pending again; its next run gets a new folder.

    Raises:
        UserError: no such request, it is in another state, or another process runs the ledger.
    """
    with Ledger.open(folder) as ledger, sole_use(folder):
        ledger.move("retried", ledger.request(id))
        return ledger.request(id)


def withdraw_request(folder: Path, id: str, reason: str) -> DeletionRequest:
    """A request that is not done will not be: it was taken back, or is settled in another way.

    Raises:
        UserError: no such request, it is done or withdrawn, or another process runs the ledger.
    """
    with Ledger.open(folder) as ledger, sole_use(folder):
        ledger.move("withdrawn", ledger.request(id), Outcome(why=reason))
        return ledger.request(id)
