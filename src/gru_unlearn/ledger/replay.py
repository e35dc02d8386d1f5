"""Check a ledger: recompute its chain, replay what that tells, and compare the tables with it."""

import sqlite3
from collections.abc import Mapping

from gru_unlearn.common.files import hash_text
from gru_unlearn.errors import first_line
from gru_unlearn.ledger.database import Ledger, describe
from gru_unlearn.ledger.hash_chain import CHANGED, CREATED, EVENTS, BrokenLedger, first_break


def check(ledger: Ledger) -> None:
    """Nothing was changed since it was written.

    Raises:
        BrokenLedger: names the first entry, or the first thing in a table, that does not hold.
    """
    try:
        wrong = first_break(ledger.chain()) or _first_disagreement(ledger)
    except (sqlite3.Error, KeyError, TypeError, ValueError) as error:
        wrong = f"it cannot be read to the end ({first_line(error)})"
    if wrong:
        raise BrokenLedger(f"{ledger.file} does not hold: {wrong}")


def _first_disagreement(ledger: Ledger) -> str | None:
    """Replay the chain; say where a table tells something else."""
    standings: dict[int, tuple[str, int]] = {}  # request → its state, and which attempt it is at
    settings = dict(ledger.connection.execute("SELECT sha256, content FROM settings"))
    for entry in ledger.entries():
        if entry.request is not None:
            state, attempt = standings.get(entry.request, (None, 1))
            allowed, after = EVENTS[entry.event]
            if state not in allowed:
                return f"entry {entry.entry}: request {entry.id} cannot be {entry.event} when {state}"
            standings[entry.request] = (after, attempt + (entry.event == "retried"))
        if entry.settings_sha256 not in settings:
            return f"the settings {entry.settings_sha256} are not in the ledger any more"
        if hash_text(settings[entry.settings_sha256]) != entry.settings_sha256:
            return f"the settings of entry {entry.entry} were changed"
    wrong = _requests_against(ledger, standings)
    noted = ledger.last(CREATED, CHANGED)
    if wrong is None and ledger.baseline_sha256() != noted.kept_rows_sha256:
        wrong = f"the first model's probabilities differ from entry {noted.entry}"
    return wrong


def _requests_against(ledger: Ledger, standings: Mapping[int, tuple[str, int]]) -> str | None:
    added = {entry.request: entry for entry in ledger.entries() if entry.event == "added"}
    requests = ledger.requests()
    if [request.number for request in requests] != sorted(standings):
        return "the table of requests has other requests than the chain"
    for request in requests:
        entry = added[request.number]
        described = describe(request, ledger.rows_of(request.number))
        wrong = [name for name, value in described.items() if getattr(entry, name, None) != value]
        if wrong:
            return f"request {request.id}: {', '.join(wrong)} differs from entry {entry.entry}"
        state, attempt = standings[request.number]
        if (request.state, request.attempt) != (state, attempt):
            return f"request {request.id} is {request.state} in the table, {state} by the chain"
    return None
