"""A fair comparison: objectives × rectifications × learning rates × seeds on one target, each run in its own
process (:mod:`cell`)."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from gru_unlearn.common.files import write_text
from gru_unlearn.common.versions import versions
from gru_unlearn.comparison.cell_results import read_cell
from gru_unlearn.comparison.comparison_tables import cell_line
from gru_unlearn.comparison.equal_terms import equal_of, rule_of
from gru_unlearn.comparison.frontier import find_frontier
from gru_unlearn.comparison.frontier_picture import frontier_svg
from gru_unlearn.comparison.job_queue import run_jobs
from gru_unlearn.comparison.matrix import SHARED, Matrix
from gru_unlearn.comparison.matrix_plan import ComparisonPlan, plan
from gru_unlearn.comparison.method_verdicts import judge_comparison
from gru_unlearn.comparison.pareto import pareto_svg
from gru_unlearn.comparison.statistics import aggregate
from gru_unlearn.errors import NonFiniteError, UserError
from gru_unlearn.reporting.measured import looked_at, rows_of
from gru_unlearn.reporting.prose import say
from gru_unlearn.results.comparison_summary import CellResult, ComparisonSummary, ReferenceSummary
from gru_unlearn.results.cost_kinds import ROWS, SECONDS
from gru_unlearn.results.row_kinds import KEPT
from gru_unlearn.results.run_folder import RunFolder
from gru_unlearn.results.run_summary import RunSummary

SECONDS_TO_STOP = 120
"""How long a run whose comparison was killed may take to its next whole step, and to save it."""


def compare(matrix: Matrix, console: Console, *, jobs: int = 1, overwrite: bool = False) -> ComparisonSummary:
    """Do the runs that are not done yet, ``jobs`` at a time, and return the summary.

    The matrix' folder then holds ``runs/NAME`` (ordinary runs), ``logs/NAME.txt`` (what each printed),
    ``summary.json``, ``pareto.svg`` and, if a method gets to f*, ``frontier.svg``.

    Raises:
        UserError: something that cannot work, found before the first run.
        Interrupted: Ctrl-C; finished runs stay, the others have a checkpoint.
        NonFiniteError: not one run came to its end.
    """
    started = time.perf_counter()
    RunFolder(matrix.output).wait_until_free(0)
    for cell in matrix.cells:  # one of a comparison that was killed a moment ago may still be saving its last step
        RunFolder(cell.folder).wait_until_free(SECONDS_TO_STOP)
    planned = plan(matrix, overwrite=overwrite)
    with planned.claim.held() as folder:
        folder.summary_file.unlink(missing_ok=True)
        cells = _run(planned, jobs, console)
        if not any(cell.done for cell in cells):
            raise NonFiniteError(f"not one run came to its end; the first: {cells[0].reason}")
        summary = summarize(planned, cells)
        summary.seconds = round(time.perf_counter() - started, 1)
        folder.finish(summary)
        write_text(folder.path / "pareto.svg", pareto_svg(summary))
        _draw_frontier(folder.path / "frontier.svg", summary)
        return summary


def _draw_frontier(file: Path, summary: ComparisonSummary) -> None:
    """Where no method gets to f*, there is none, nor one of an earlier call."""
    if summary.frontier is None:
        file.unlink(missing_ok=True)
    else:
        write_text(file, frontier_svg(summary, summary.frontier))


def _run(planned: ComparisonPlan, at_once: int, console: Console) -> list[CellResult]:
    """Do what is still to do, and read what all runs say."""
    logs, to_do = planned.matrix.output / "logs", len(planned.cells)
    cells = {cell.name: cell for cell in planned.matrix.cells}
    found: dict[str, CellResult] = {}

    def check_reference(_: str, reason: str | None) -> None:
        if reason is not None:
            raise UserError(f"the target or the retain model cannot be measured: {reason}")

    def tell(name: str, reason: str | None) -> None:
        found[name] = read_cell(cells[name], reason)
        line = f"{len(found)}/{to_do} {cell_line(found[name])}"
        say(console, line)

    if to_do < len(cells):
        console.print(f"{len(cells) - to_do} of {len(cells)} runs are finished and stay as they are.")
    run_jobs(planned.reference, 1, logs, console, check_reference)
    run_jobs(planned.cells, at_once, logs, console, tell)
    return [found.get(name) or read_cell(cell, None) for name, cell in cells.items()]


def summarize(planned: ComparisonPlan, cells: Sequence[CellResult]) -> ComparisonSummary:
    """What the runs come to."""
    matrix = planned.matrix
    reference = ReferenceSummary.read(matrix.reference.summary_file)
    assert reference is not None  # it was measured before the first run
    equal = equal_of(matrix.terms, matrix.objectives)
    rows = aggregate(cells, equal, matrix.terms.against)
    preferred = ROWS if equal.what == "passes" else SECONDS
    summary = ComparisonSummary(
        rule=rule_of(equal),
        forget_target=next((cell.forget_target for cell in cells if cell.done), None),
        target=reference.target,
        retain_model=reference.retain_model,
        **_mark_of(reference, cells),
        equal=equal,
        against=matrix.terms.against,
        aggregates=rows,
        frontier=find_frontier(cells, preferred),
        cells=list(cells),
        settings={**SHARED, **matrix.settings},
        learning_rates={objective: list(rates) for objective, rates in matrix.learning_rates.items()},
        suite=planned.suite.used if planned.suite else None,
        versions=versions(),
        **_rows_of_runs(matrix),
        target_said=reference.target_said,
        retain_model_said=reference.retain_model_said,
    )
    judge_comparison(summary)
    return summary


def _mark_of(reference: ReferenceSummary, cells: Sequence[CellResult]) -> dict[str, Any]:
    """What stands in for a retain model; nothing where there is one."""
    mark = next((cell.mark for cell in cells if cell.done), None)
    found = {"mark": mark, "base_model": reference.base_model}
    return {name: value for name, value in found.items() if value is not None}


def _rows_of_runs(matrix: Matrix) -> dict[str, Any]:
    """How many rows every run was to remove and to keep, and how many of each set its evaluations look at."""
    found = (RunSummary.read(RunFolder(cell.folder).summary_file) for cell in matrix.cells)
    known = next((summary for summary in found if summary is not None), None)
    if known is None:
        return {}
    kept = {kind.key: known.data[kind.key].rows for kind in KEPT if kind.key in known.data}
    return {"forget_rows": rows_of(known.data), "kept_rows": kept, "looked_at": looked_at(known)}
