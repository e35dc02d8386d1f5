"""Verdicts on the models that requests left, by the rule of every other verdict."""

from pathlib import Path

from gru_unlearn.common.files import UnreadableFile
from gru_unlearn.reporting.evidence import Evidence, Kept
from gru_unlearn.reporting.judge import together, verdict_of
from gru_unlearn.reporting.measured import marks_apart
from gru_unlearn.results.ledger_summary import Judgement, LedgerSummary, RequestSummary
from gru_unlearn.results.mark import Mark
from gru_unlearn.results.row_kinds import KEPT
from gru_unlearn.results.run_folder import RunFolder
from gru_unlearn.results.run_summary import RunSummary


def judge_requests(folder: Path, summary: LedgerSummary) -> None:
    """Write the verdicts into a ledger's summary."""
    done = {}
    for request in summary.requests:
        if request.metrics is None:
            continue
        request.verdict = verdict_of(request_evidence(request, request.metrics, _mark(folder, request)))
        if request.state == "done":
            done[request.id] = request.verdict
    if done:
        summary.verdict = together(done)


def request_evidence(request: RequestSummary, metrics: Judgement, mark: Mark | None) -> Evidence:
    """What the ledger noted of a request's run."""
    retain, other = marks_apart(mark)
    return Evidence(
        request.forget_prob_before,
        metrics.forget_prob.get(request.id),
        retain,
        rows=request.rows,
        said=metrics.said,
        said_before=request.said_before,
        kept=_kept(metrics),
        other_mark=other,
    )


def _kept(metrics: Judgement) -> dict[str, Kept]:
    """Beside the first model: ledgers note the share that is left of it."""
    kept = {}
    for kind in KEPT:
        after, share = getattr(metrics, kind.probability), getattr(metrics, f"{kind.key}_kept")
        if after is not None and share:
            kept[kind.label] = Kept(after / share, after)
    return kept


def _mark(folder: Path, request: RequestSummary) -> Mark | None:
    """The mark of the request's run, where it had one and its folder is still there."""
    try:
        run = RunSummary.read(RunFolder(folder / "versions" / request.version).summary_file)
    except UnreadableFile:
        return None
    return None if run is None else run.results.known_mark
