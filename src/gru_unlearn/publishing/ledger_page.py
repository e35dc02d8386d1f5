"""The page of a ledger of deletion requests."""

from gru_unlearn.ledger.ledger_tables import models_tables, requests_table
from gru_unlearn.ledger.request_verdicts import request_evidence
from gru_unlearn.publishing.material import Material
from gru_unlearn.publishing.record_sections import record
from gru_unlearn.reporting.judge import verdict_of
from gru_unlearn.reporting.parts import Page, Section, TableData, from_rich
from gru_unlearn.results.ledger_summary import LedgerSummary, RequestSummary
from gru_unlearn.results.verdict import Verdict


def ledger_page(summary: LedgerSummary, material: Material) -> Page:
    """Every request with the verdict on the model that it left."""
    judged = {f"{request.id} ({request.state})": _verdict(request) for request in summary.requests}
    tables = [from_rich(requests_table(summary))]
    if any(request.metrics for request in summary.requests):
        tables += map(from_rich, models_tables(summary))
    return Page(
        title="Ledger of requests to remove rows",
        facts={"requests": str(len(summary.requests)), "entries of the chain": str(summary.entries)},
        judged={name: verdict for name, verdict in judged.items() if verdict is not None},
        sections=[
            Section("results", "Every request", tables=tables),
            Section("hashes", "By their content", "As the chain of the ledger notes it.", tables=[_hashes(summary)]),
        ],
        record=record(material),
    )


def _verdict(request: RequestSummary) -> Verdict | None:
    if request.verdict is not None or request.metrics is None:
        return request.verdict
    return verdict_of(request_evidence(request, request.metrics, None))


def _hashes(summary: LedgerSummary) -> TableData:
    rows = [["head of the chain", summary.head], ["newest model", summary.newest_model.sha256 or "–"]]
    for request in summary.requests:
        rows.append([f"{request.id}: rows", request.data_sha256])
        rows += [[f"{request.id}: model after", request.weights_after]] if request.weights_after else []
    return TableData(["what", "SHA-256"], rows, keys=2)
