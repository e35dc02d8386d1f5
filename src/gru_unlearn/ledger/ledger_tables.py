"""Tables of a ledger of requests: how each stands, what each accepted model gives, and the chain."""

from collections.abc import Sequence
from itertools import chain

from rich.table import Table

from gru_unlearn.ledger.hash_chain import ChainEntry, Link
from gru_unlearn.reporting.tables import add_remarks, make_table
from gru_unlearn.results.ledger_summary import LedgerSummary
from gru_unlearn.results.row_kinds import HELD_OUT, RETAIN


def requests_table(summary: LedgerSummary) -> Table:
    """Every request: its state, and what the model knew of its rows before and after."""
    headings = ("request", "received", "rows", "state", "forget prob before", "after", "utility kept")
    rows = []
    for request in summary.requests:
        after = utility = None
        if request.metrics is not None:
            after, utility = request.metrics.forget_prob.get(request.id), request.metrics.utility
        asked = (request.id, request.date, request.rows, request.state)
        rows.append((*asked, request.forget_prob_before, after, utility))
    table = make_table("Requests", headings, rows)
    add_remarks(table, [(f"{request.id} {request.state}", request.why) for request in summary.requests if request.why])
    return table


def models_table(summary: LedgerSummary) -> Table:
    """What the model after each request gives on every forget set so far and on the rows to keep."""
    judged = [(request, request.metrics) for request in summary.requests if request.metrics is not None]
    ids = [request.id for request, _ in judged]
    kinds = []
    for kind in (RETAIN, HELD_OUT):
        if any(getattr(metrics, kind.probability) is not None for _, metrics in judged):
            kinds.append(kind)
    kept = chain.from_iterable((f"{kind.label} prob", "kept") for kind in kinds)
    rows = []
    for request, metrics in judged:
        row = [request.id, *(metrics.forget_prob.get(id, "") for id in ids)]
        for kind in kinds:
            row += [getattr(metrics, kind.probability), getattr(metrics, f"{kind.key}_kept")]
        remarks = [] if request.state == "done" else ["not adopted"]
        remarks += [f"{id}: {reason}" for id, reason in metrics.not_checked.items()]
        rows.append([*row, ", ".join(remarks)])
    headings = ("after", *ids, *kept, "")
    return make_table("Forget probability of each request's rows, and what was kept", headings, rows)


def chain_table(links: Sequence[Link]) -> Table:
    """Every entry, with the first twelve digits of its hashes."""
    headings = ("entry", "time", "event", "request", "data", "model before", "model after", "SHA-256")
    rows = []
    for number, text, digest in links:
        entry = ChainEntry.model_validate_json(text)
        hashes = (entry.data_sha256, entry.weights_before or "", entry.weights_after or "", digest)
        shown = [found[:12] for found in hashes]
        rows.append((str(number), entry.time[:19], entry.event, entry.id, *shown))
    return make_table("", headings, rows)
