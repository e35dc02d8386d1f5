"""Tables of a ledger of requests: how each stands, what each accepted model gives, and the chain."""

from collections.abc import Sequence
from itertools import chain

from rich.table import Table

from gru_unlearn.ledger.hash_chain import ChainEntry, Link
from gru_unlearn.reporting.tables import add_remarks, make_table
from gru_unlearn.results.ledger_summary import Judgement, LedgerSummary, RequestSummary
from gru_unlearn.results.row_kinds import HELD_OUT, RETAIN

_SETS_ABREAST = 5
"""Forget sets of one table: as many as 80 columns hold."""


def requests_table(summary: LedgerSummary) -> Table:
    """Every request: its state, and what the model knew of its rows before and after."""
    headings = ("request", "received", "rows", "state", "before", "after", "kept")
    rows = []
    for request in summary.requests:
        after = utility = None
        if request.metrics is not None:
            after, utility = request.metrics.forget_prob.get(request.id), request.metrics.utility
        asked = (request.id, request.date, request.rows, request.state)
        rows.append((*asked, request.forget_prob_before, after, utility))
    table = _narrow(make_table("Requests: forget probability before and after, and utility kept", headings, rows))
    add_remarks(table, [(f"{request.id} {request.state}", request.why) for request in summary.requests if request.why])
    return table


def models_tables(summary: LedgerSummary) -> list[Table]:
    """What the model after each request gives on all forget sets so far, a few a table, and on the rows to keep."""
    judged = [(request, request.metrics) for request in summary.requests if request.metrics is not None]
    tables = []
    for begin in range(0, len(judged), _SETS_ABREAST):
        asked = [request for request, _ in judged[begin : begin + _SETS_ABREAST]]
        rows = []
        for request, metrics in judged:
            found = [metrics.forget_prob.get(one.id, "") for one in asked]
            if any(value != "" for value in found):  # early models were not asked for later rows
                rows.append([request.id, *found])
        headings = ("after", *(one.id for one in asked))
        tables.append(_narrow(make_table("Forget probability of each request's rows", headings, rows)))
    return [*tables, _kept_table(judged)]


def _kept_table(judged: Sequence[tuple[RequestSummary, Judgement]]) -> Table:
    """What each model keeps, and what is to be said of it."""
    kinds = []
    for kind in (RETAIN, HELD_OUT):
        if any(getattr(metrics, kind.probability) is not None for _, metrics in judged):
            kinds.append(kind)
    rows: list[list[object]] = []
    remarks: list[tuple[str, str]] = []
    for request, metrics in judged:
        row: list[object] = [request.id]
        for kind in kinds:
            row += [getattr(metrics, kind.probability), getattr(metrics, f"{kind.key}_kept")]
        rows.append([*row, "" if request.state == "done" else "not adopted"])
        remarks += [(f"after {request.id}, {id}", reason) for id, reason in metrics.not_checked.items()]
    kept = chain.from_iterable((f"{kind.label} prob", "kept") for kind in kinds)
    table = _narrow(make_table("What was kept", ("after", *kept, ""), rows))
    add_remarks(table, remarks)
    return table


def _narrow(table: Table) -> Table:
    """Names go on in the next line, wherever they are cut."""
    table.padding = (0, 1, 0, 0)
    for column in table.columns:
        column.overflow = "fold"
    return table


def chain_table(links: Sequence[Link]) -> Table:
    """Every entry, with the first eight digits of its hashes: the whole ones stand in the entries themselves."""
    headings = ("entry", "time", "event", "request", "data", "model before", "model after", "SHA-256")
    rows = []
    for number, text, digest in links:
        entry = ChainEntry.model_validate_json(text)
        hashes = (entry.data_sha256, entry.weights_before or "", entry.weights_after or "", digest)
        shown = [found[:8] for found in hashes]
        time = entry.time[:19].replace("T", " ")  # so that it may go on in the next line
        rows.append((str(number), time, entry.event, entry.id, *shown))
    return _narrow(make_table("", headings, rows))
