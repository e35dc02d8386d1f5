"""The page of a ledger of deletion requests."""

from collections import Counter
from collections.abc import Iterator

from gru_unlearn.ledger.ledger_tables import models_tables, requests_table
from gru_unlearn.ledger.request_verdicts import request_evidence
from gru_unlearn.publishing.material import Material
from gru_unlearn.publishing.record_sections import record
from gru_unlearn.reporting.judge import together, verdict_of
from gru_unlearn.reporting.parts import Brief, Page, Section, TableData, from_rich
from gru_unlearn.reporting.tables import plural
from gru_unlearn.results.ledger_summary import LedgerSettings, LedgerSummary, RequestSummary
from gru_unlearn.results.verdict import Verdict


def ledger_page(summary: LedgerSummary, material: Material) -> Page:
    """Every request with the verdict on the model that it left. Where one is done, there is something to sign."""
    judged, done = {}, {}
    for request in summary.requests:
        verdict = _verdict(request)
        if verdict is not None:
            judged[_name(request)] = verdict
        if verdict is not None and request.state == "done":
            done[request.id] = verdict
    sections = [Section("results", "Every request", tables=_tables(summary))]
    if not done:
        sections.append(Section("hashes", "By their content", tables=[_hashes_table(summary)]))
    return Page(
        title="Ledger of requests to remove rows",
        facts={"requests": str(len(summary.requests)), "entries of the chain": str(summary.entries)},
        verdict=together(done) if done else None,
        judged=judged,
        brief=_brief(summary, material) if done else None,
        sections=sections,
        record=record(material),
    )


def _name(request: RequestSummary) -> str:
    """With its state, and the day on which its model was judged."""
    when = f", judged {request.finished[:10]}" if request.finished else ""
    return f"{request.id} ({request.state}{when})"


def _verdict(request: RequestSummary) -> Verdict | None:
    if request.verdict is not None or request.metrics is None:
        return request.verdict
    return verdict_of(request_evidence(request, request.metrics, None))


def _tables(summary: LedgerSummary) -> list[TableData]:
    tables = [from_rich(requests_table(summary))]
    if any(request.metrics for request in summary.requests):
        tables += map(from_rich, models_tables(summary))
    return tables


def _brief(summary: LedgerSummary, material: Material) -> Brief:
    """What stands there beside the verdict on the requests that are done."""
    done = [request for request in summary.requests if request.state == "done"]
    states = Counter(request.state for request in summary.requests)
    rows = plural(sum(request.rows for request in done), "row")
    return Brief(
        request=material.options.request or ", ".join(request.id for request in done),
        responsible=material.options.responsible,
        facts={
            "Requests": ", ".join(f"{count} {state}" for state, count in states.items()),
            "To be removed": f"{rows} of {plural(len(done), 'request')}, known by the SHA-256 below",
            "What was done": _done(summary.settings),
            "What it cost": _cost(done[-1]),
            "What was tried to bring it back": "Nothing: a ledger attacks no model. gru attack RUN does, for each run "
            "in the ledger's folder versions.",
        },
        hashes=dict(_hashes(summary)),
    )


def _done(limits: LedgerSettings) -> str:
    return (
        "The rows of each request were unlearned from the model that the one before it had left. A model was adopted "
        f"only if it kept at least {limits.utility_floor:.0%} of the first model's probability of the answers to keep, "
        f"and gave those of no request more than {limits.forget_ceiling:.0%} of theirs (the limits that hold now)."
    )


def _cost(newest: RequestSummary) -> str:
    assert newest.metrics is not None
    return f"The newest model keeps {newest.metrics.utility:.1%} of the first one's probability of the answers to keep."


def _hashes(summary: LedgerSummary) -> Iterator[tuple[str, str]]:
    """As the chain of the ledger notes them."""
    yield "head of the chain", summary.head
    if summary.newest_model.sha256:
        yield "newest model", summary.newest_model.sha256
    for request in summary.requests:
        yield f"{request.id}: rows", request.data_sha256
        if request.weights_after:
            yield f"{request.id}: model after", request.weights_after


def _hashes_table(summary: LedgerSummary) -> TableData:
    return TableData(["what", "SHA-256"], [list(pair) for pair in _hashes(summary)], keys=2)
