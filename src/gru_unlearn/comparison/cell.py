"""One run of a comparison, in its own process: ``python -m gru_unlearn.comparison.cell``.

It reads one job, a line of JSON, from standard input, and stops as on Ctrl-C when its standard input is closed, so that
no job outlives the comparison that started it.
"""

import _thread
import os
import re
import resource
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from torch.optim.optimizer import register_optimizer_step_post_hook

from gru_unlearn.comparison.comparison_suite import SuiteJob, evaluate_on_suite, score_retain_model
from gru_unlearn.comparison.matrix_plan import JOB, CellJob, ReferenceJob
from gru_unlearn.comparison.method_verdicts import said_by_set
from gru_unlearn.comparison.own_answers import ask
from gru_unlearn.errors import exit_code
from gru_unlearn.evaluation import ScoreTable
from gru_unlearn.models.loading import quiet
from gru_unlearn.results.comparison_summary import CELL_FILE, CellRecord, ReferenceSummary
from gru_unlearn.results.model_metrics import UNMEASURED, Metrics
from gru_unlearn.results.row_kinds import FORGET
from gru_unlearn.results.run_folder import RunFolder
from gru_unlearn.results.verdict import Said
from gru_unlearn.runs.recipe import make_recipe
from gru_unlearn.runs.run_models import load_on_device
from gru_unlearn.runs.run_preparation import Prepared, prepare
from gru_unlearn.runs.unlearn_job import unlearn
from gru_unlearn.training import UnlearningTrainer
from gru_unlearn.training.interrupt import Interrupted


def do_reference(job: ReferenceJob) -> None:
    """Measure the target, and the retain model or what stands in for it, on the very rows that are evaluated along the
    runs; the first two on the suite, too."""
    prepared = prepare(make_recipe(job.settings), like=job.identity)
    prepared.recipe.config.output_dir, prepared.recipe.config.disable_tqdm = str(job.folder), True
    job.folder.mkdir(parents=True, exist_ok=True)
    retain_table = None
    if job.suite is not None and prepared.retain_model is not None:
        retain_table = score_retain_model(job.suite.request, prepared.retain_model.folder)
        retain_table.save(job.suite.retain_scores)
    target, target_said = _measure_reference(prepared, prepared.model.folder, retain_table, job.suite)
    summary = ReferenceSummary(
        identity=job.identity,
        target=target,
        retain_model=UNMEASURED,
        target_said=target_said,
        retain_model_said={},
        asked=True,
    )
    if prepared.retain_model is not None:
        found = _measure_reference(prepared, prepared.retain_model.folder, retain_table, job.suite)
        summary.retain_model, summary.retain_model_said = found
    elif prepared.base_model is not None:
        summary.base_model, _ = _measure_reference(prepared, prepared.base_model.folder, None, None)
    RunFolder(job.folder).finish(summary)


def _measure_reference(
    prepared: Prepared, model: Path, retain_table: ScoreTable | None, suite: SuiteJob | None
) -> tuple[Metrics, dict[str, Said]]:
    """Its numbers, and what it answers, to a suite or to the runs' own rows."""
    examples = prepared.examples
    trainer = UnlearningTrainer(
        load_on_device(prepared, model),
        prepared.recipe.config,
        forget_dataset=examples["forget"],
        retain_dataset=examples["retain"],
        eval_dataset={name: rows for name, rows in examples.items() if name == "held_out"},
        processing_class=prepared.model.encoder.tokenizer,
    )
    evaluated = trainer.evaluate()
    measured: dict[str, float | None] = {name.removeprefix("eval_"): value for name, value in evaluated.items()}
    del trainer
    said = {}
    if suite is not None:
        found = evaluate_on_suite(suite.request, model, retain_table)
        measured |= CellRecord(metrics=found.metrics).shown
        said = said_by_set(found.table)
    if FORGET.key not in said:
        said = {**ask(prepared, model), **said}
    return Metrics.model_validate(measured), said


def do_cell(job: CellJob) -> None:
    """Train unless that is done, note what it cost, evaluate the saved model, and ask it."""
    file, prepared = job.folder / CELL_FILE, None
    if job.train:
        prepared = prepare(make_recipe(job.settings), like=job.like or None)
        record = CellRecord(cost=train(prepared))
        record.write(file)
    else:
        record = CellRecord.read(file) or CellRecord()
    if job.suite is not None:
        _evaluate(job, job.suite, record)
        record.write(file)
    if not record.is_asked:
        record.said = {**ask(prepared or _once_more(job), RunFolder(job.folder).model), **record.said}
        record.asked = True
        record.write(file)


def _evaluate(job: CellJob, suite: SuiteJob, record: CellRecord) -> None:
    """What the suite says of the saved model, into the record."""
    scores = suite.retain_scores
    retain_table = ScoreTable.load(scores) if scores.is_file() else None
    found = evaluate_on_suite(suite.request, RunFolder(job.folder).model, retain_table)
    record.suite, record.metrics, record.missing = suite.used, found.metrics, found.missing
    record.said, record.asked = said_by_set(found.table), False


def _once_more(job: CellJob) -> Prepared:
    """The rows and the manner of a run that is finished, whose own folder may not be prepared again."""
    elsewhere = {**job.settings, "output_dir": str(job.folder.with_name("none"))}
    return prepare(make_recipe(elsewhere), like=job.like or None)


def train(prepared: Prepared) -> dict[str, float | None]:
    """Do one unlearning run, and return seconds per step and peak memory of this process so far."""
    with step_ends() as ends:
        summary = unlearn(prepared, Console(width=200))
    evaluated = {point.step for point in summary.trajectory}
    return {
        "seconds_per_step": seconds_per_step(ends, summary.steps, evaluated),
        "peak_memory_mb": peak_memory_mb(),
        "peak_gpu_memory_mb": torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None,
    }


# --- what a run costs ------------------------------------------------------------------------------------------------


@contextmanager
def step_ends() -> Iterator[list[float]]:
    """The times at which optimizer steps end, while inside."""
    ends: list[float] = []
    handle = register_optimizer_step_post_hook(lambda *_: ends.append(time.perf_counter()))
    try:
        yield ends
    finally:
        handle.remove()


def seconds_per_step(ends: Sequence[float], last_step: int, evaluated: set[int]) -> float | None:
    """Median time from one step's end to the next's, without the steps that an evaluation stands before.

    Args:
        ends: times, the last of which belongs to step ``last_step``.
        last_step: counted from 1; a resumed run has more steps than ``ends``.
        evaluated: steps after which an evaluation came.

    Returns:
        Seconds, or None where no two steps follow each other directly.
    """
    first = last_step - len(ends) + 1
    times = [later - earlier for step, (earlier, later) in enumerate(pairwise(ends), first) if step not in evaluated]
    return median(times) if times else None


def peak_memory_mb() -> float:
    """Most memory this process has held at once (resident set), in MiB.

    On Linux from /proc: ``getrusage`` there counts what the starting process held before it, too.
    """
    status = Path("/proc/self/status")
    if status.is_file() and (found := re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(), re.MULTILINE)):
        return int(found[1]) / 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 1024)


# --- the process -----------------------------------------------------------------------------------------------------


def _stop_with_parent() -> None:
    """Wait for standard input to close, then do as Ctrl-C does."""
    while os.read(0, 4096):
        pass
    _thread.interrupt_main()


def main() -> None:
    """Do the job that stands on standard input. Exit codes as of ``gru``; the last line printed is the reason."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a comparison in the background has off
    job = JOB.validate_json(sys.stdin.buffer.readline())
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    warnings.filterwarnings("ignore")
    quiet()
    try:
        if isinstance(job, ReferenceJob):
            do_reference(job)
        else:
            do_cell(job)
    except (KeyboardInterrupt, Interrupted):
        print("interrupted")
        sys.exit(130)
    except Exception as error:
        traceback.print_exc(file=sys.stdout)
        first = (str(error).strip().splitlines() or [""])[0]
        print(first if hasattr(error, "exit_code") else f"{type(error).__name__}: {first}")
        sys.exit(exit_code(error))


if __name__ == "__main__":
    main()
