"""How a ledger stands: its settings, every request with its newest numbers, newest model, head of the chain."""

from collections.abc import Sequence

from gru_unlearn.common.versions import versions
from gru_unlearn.ledger.database import Ledger
from gru_unlearn.ledger.deletion_request import TRANSITIONS, DeletionRequest
from gru_unlearn.ledger.hash_chain import ChainEntry, newest
from gru_unlearn.results.ledger_summary import LedgerSummary, Outcome, RequestSummary
from gru_unlearn.results.run_folder import RunFolder


def summarise(ledger: Ledger) -> LedgerSummary:
    """All of that."""
    entries = ledger.entries()
    return LedgerSummary(
        requests=[_tell(request, entries) for request in ledger.requests()],
        newest_model=ledger.newest_model(),
        entries=len(entries),
        head=ledger.chain()[-1][2],
        settings=ledger.settings(),
        settings_sha256=ledger.settings_sha256,
        versions=versions(),
    )


def _tell(request: DeletionRequest, entries: Sequence[ChainEntry]) -> RequestSummary:
    """A request, without its reason, and what the newest entries about it tell."""
    told = request.model_dump(exclude={"reason"})
    for entry in (newest(entries, "started", id=request.id), newest(entries, *TRANSITIONS, id=request.id)):
        if entry is not None:
            told |= entry.model_dump(include=set(Outcome.model_fields), exclude_unset=True)
    return RequestSummary.model_validate(told)


def write_summary(ledger: Ledger) -> LedgerSummary:
    """How it stands, beside the ledger too."""
    summary = summarise(ledger)
    RunFolder(ledger.folder).finish(summary)
    return summary
