"""Evaluations side by side: how metrics change with the size of the forget set, or from request to request."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gru_unlearn.common.files import read_json, write_json
from gru_unlearn.common.versions import versions
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation.curves import curves
from gru_unlearn.results.run_folder import SUMMARY_FILE, RunFolder


def evaluation_curve(runs: Sequence[Path], out: Path, *, overwrite: bool = False) -> dict[str, Any]:
    """Each metric over a sequence of finished evaluations; writes ``summary.json`` to ``out`` and returns it.

    The size of a run is the number of its forget rows where no two runs have the same number (MUSE's scalability),
    and otherwise its place in the sequence (sustainability: one request after the other).

    Raises:
        UserError: fewer than two runs, one that is no finished evaluation, or runs of different suites.
    """
    if len(runs) < 2:
        raise UserError("--curve needs at least two folders of finished evaluations")
    summaries = [_evaluation(run) for run in runs]
    suites = {summary["suite"] for summary in summaries}
    if len(suites) > 1:
        raise UserError(f"--curve needs evaluations of one suite, got {', '.join(sorted(suites))}")
    size, sizes = _sizes(summaries)
    identity = {"runs": [_run(run, summary) for run, summary in zip(runs, summaries, strict=True)]}
    RunFolder(out).check(identity, overwrite=overwrite, inputs=runs)
    found = curves([(size, summary["metrics"]) for size, summary in zip(sizes, summaries, strict=True)])
    with RunFolder(out).held(identity, resume=False):
        summary = {
            "command": "curve",
            "suite": suites.pop(),
            "size": size,
            "sizes": sorted(sizes),
            "curves": {key: {"values": curve.values, "slope": curve.slope} for key, curve in found.items()},
            **identity,
            "versions": versions(),
        }
        write_json(out / SUMMARY_FILE, summary)
    return summary


def _evaluation(run: Path) -> Mapping[str, Any]:
    summary = read_json(run / SUMMARY_FILE)
    if not isinstance(summary, dict) or summary.get("command") != "evaluate":
        raise UserError(f"--curve: {run} is no finished evaluation (gru evaluate --out {run} makes one)")
    return summary


def _sizes(summaries: Sequence[Mapping[str, Any]]) -> tuple[str, list[int]]:
    """What a run's size is, and each run's."""
    rows = [summary.get("data", {}).get("forget", {}).get("rows") for summary in summaries]
    if None not in rows and len(set(rows)) == len(rows):
        return "forget rows", rows
    return "place in the sequence", list(range(1, len(rows) + 1))


def _run(run: Path, summary: Mapping[str, Any]) -> dict[str, Any]:
    return {"source": str(run), "model": summary["model"], "data": summary.get("data", {})}
