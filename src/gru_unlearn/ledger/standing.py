"""How a ledger stands: its settings, every request with its newest numbers, newest model, head of the chain."""

from gru_unlearn.common.versions import versions
from gru_unlearn.ledger.database import Ledger
from gru_unlearn.ledger.hash_chain import JUDGED
from gru_unlearn.ledger.request_verdicts import judge_requests
from gru_unlearn.results.ledger_summary import LedgerSummary, Outcome, RequestSummary
from gru_unlearn.results.run_folder import RunFolder


def summarise(ledger: Ledger) -> LedgerSummary:
    """All of that; of a request, without its reason, what the newest entries about it tell."""
    entries = ledger.entries()
    started = {entry.id: entry for entry in entries if entry.event == "started"}
    latest = {entry.id: entry for entry in entries}
    requests = []
    for request in ledger.requests():
        told = request.model_dump(exclude={"reason"})
        for entry in filter(None, (started.get(request.id), latest.get(request.id))):
            told |= entry.model_dump(include=set(Outcome.model_fields), exclude_unset=True)
            if entry.event in JUDGED:
                told["finished"] = entry.time
        requests.append(RequestSummary.model_validate(told))
    summary = LedgerSummary(
        requests=requests,
        newest_model=ledger.newest_model(),
        finished=entries[-1].time,
        entries=len(entries),
        head=ledger.chain()[-1][2],
        settings=ledger.settings(),
        settings_sha256=ledger.settings_sha256,
        versions=versions(),
    )
    judge_requests(ledger.folder, summary)
    return summary


def write_summary(ledger: Ledger) -> LedgerSummary:
    """How it stands, beside the ledger too."""
    summary = summarise(ledger)
    RunFolder(ledger.folder).finish(summary)
    return summary
