"""Evaluations side by side: how metrics change with the size of the forget set, or from request to request."""

from collections.abc import Sequence
from pathlib import Path

from gru_unlearn.common.files import read_json
from gru_unlearn.common.versions import versions
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation.curves import curves
from gru_unlearn.results.evaluation_summary import CurveRun, CurveSummary, CurveValues, EvaluatedModel
from gru_unlearn.results.run_folder import RunFolder


def evaluation_curve(runs: Sequence[Path], out: Path, *, overwrite: bool = False) -> CurveSummary:
    """Each metric over a sequence of finished evaluations; writes ``summary.json`` to ``out`` and returns it.

    The size of a run is the number of its forget rows where no two runs have the same number (MUSE's scalability),
    and otherwise its place in the sequence (sustainability: one request after the other).

    Raises:
        UserError: fewer than two runs, one that is no finished evaluation, or runs of different suites.
    """
    if len(runs) < 2:
        raise UserError("--curve needs at least two folders of finished evaluations")
    evaluations = [_read(run) for run in runs]
    suites = {evaluation.suite for evaluation in evaluations}
    if len(suites) > 1:
        raise UserError(f"--curve needs evaluations of one suite, got {', '.join(sorted(suites))}")
    size, sizes = _sizes(evaluations)
    found = curves([(at, one.metrics) for at, one in zip(sizes, evaluations, strict=True)])
    pairs = zip(runs, evaluations, strict=True)
    summary = CurveSummary(
        suite=suites.pop(),
        size=size,
        sizes=sorted(sizes),
        curves={key: CurveValues(values=curve.values, slope=curve.slope) for key, curve in found.items()},
        runs=[CurveRun(source=str(run), model=one.model, data=one.data) for run, one in pairs],
        versions=versions(),
    )
    identity = {"runs": [run.to_json() for run in summary.runs]}
    claim = RunFolder(out).claim(identity, overwrite=overwrite, inputs=runs)
    with claim.held(resume=False) as folder:
        folder.finish(summary)
    return summary


def _read(run: Path) -> EvaluatedModel:
    content = read_json(RunFolder(run).summary_file)
    if not isinstance(content, dict) or content.get("command") != "evaluate":
        raise UserError(f"--curve: {run} is no finished evaluation (gru evaluate --out {run} makes one)")
    return EvaluatedModel.model_validate(content)


def _sizes(evaluations: Sequence[EvaluatedModel]) -> tuple[str, list[int]]:
    """What a run's size is, and each run's."""
    rows = [evaluation.data["forget"].rows for evaluation in evaluations if "forget" in evaluation.data]
    if len(set(rows)) == len(evaluations):
        return "forget rows", rows
    return "place in the sequence", list(range(1, len(evaluations) + 1))
