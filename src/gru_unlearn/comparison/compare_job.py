"""A fair comparison: objectives × rectifications × learning rates × seeds on one target, each run in its own
process (:mod:`cell`)."""

import time
from collections.abc import Mapping

from rich.console import Console

from gru_unlearn.common.files import write_text
from gru_unlearn.common.versions import versions
from gru_unlearn.comparison.cell_results import read_cell
from gru_unlearn.comparison.comparison_tables import cell_line
from gru_unlearn.comparison.job_queue import run_jobs
from gru_unlearn.comparison.matrix import SHARED, Matrix
from gru_unlearn.comparison.matrix_plan import ComparisonPlan, plan
from gru_unlearn.comparison.pareto import pareto_svg
from gru_unlearn.comparison.statistics import RULE, aggregate
from gru_unlearn.errors import NonFiniteError, UserError
from gru_unlearn.results.comparison_summary import ComparisonSummary, ReferenceSummary
from gru_unlearn.results.run_folder import RunFolder

SECONDS_TO_STOP = 120
"""How long a run whose comparison was killed may take to its next whole step, and to save it."""


def compare(matrix: Matrix, console: Console, *, jobs: int = 1, overwrite: bool = False) -> ComparisonSummary:
    """Do the runs that are not done yet, ``jobs`` at a time, and return the summary.

    The matrix' folder then holds ``runs/NAME`` (ordinary runs), ``logs/NAME.txt`` (what each printed),
    ``summary.json`` and ``pareto.svg``.

    Raises:
        UserError: something that cannot work, found before the first run.
        Interrupted: Ctrl-C; finished runs stay, the others have a checkpoint.
        NonFiniteError: not one run came to its end.
    """
    if jobs < 1:
        raise UserError(f"--jobs must be at least 1, got {jobs}")
    started = time.perf_counter()
    _wait_for_stopping_runs(matrix)
    planned = plan(matrix, overwrite=overwrite)
    with planned.claim.held() as folder:
        folder.summary_file.unlink(missing_ok=True)
        failed = _run(planned, jobs, console)
        summary = summarize(planned, failed)
        summary.seconds = round(time.perf_counter() - started, 1)
        if not any(cell.done for cell in summary.cells):
            raise NonFiniteError(f"not one run came to its end; the first: {summary.cells[0].reason}")
        folder.finish(summary)
        write_text(folder.path / "pareto.svg", pareto_svg(summary))
        return summary


def _wait_for_stopping_runs(matrix: Matrix) -> None:
    """Runs of a comparison that was killed a moment ago may still be saving their last step."""
    RunFolder(matrix.output).wait_until_free(0)
    for cell in matrix.cells:
        RunFolder(cell.folder).wait_until_free(SECONDS_TO_STOP)


def _run(planned: ComparisonPlan, at_once: int, console: Console) -> dict[str, str]:
    """Do what is to be done; a run's name → why it failed."""
    logs = planned.matrix.output / "logs"
    cells = {cell.name: cell for cell in planned.matrix.cells}
    if len(planned.cells) < len(cells):
        finished = len(cells) - len(planned.cells)
        console.print(f"{finished} of {len(cells)} runs are finished and stay as they are.")
    if planned.reference is not None:
        for reason in run_jobs([planned.reference], 1, logs, console).values():
            raise UserError(f"the target or the retain model cannot be measured: {reason}")
    return run_jobs(planned.cells, at_once, logs, console, lambda name, why: cell_line(read_cell(cells[name], why)))


def summarize(planned: ComparisonPlan, failed: Mapping[str, str]) -> ComparisonSummary:
    """Every number of every run, and what they come to. ``failed``: a run's name → why it has no numbers."""
    matrix = planned.matrix
    reference = ReferenceSummary.read(matrix.reference.summary_file)
    assert reference is not None  # it was measured before the first run
    cells = [read_cell(cell, failed.get(cell.name)) for cell in matrix.cells]
    return ComparisonSummary(
        rule=RULE,
        forget_target=next((cell.forget_target for cell in cells if cell.done), None),
        target=reference.target,
        retain_model=reference.retain_model,
        aggregates=aggregate(cells),
        cells=cells,
        settings={**SHARED, **matrix.settings},
        learning_rates={objective: list(rates) for objective, rates in matrix.learning_rates.items()},
        suite=planned.suite,
        versions=versions(),
    )
