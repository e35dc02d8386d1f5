"""One run of a comparison, in its own process: ``python -m gru_unlearn.comparison.cell``.

It reads one job, a line of JSON, from standard input, and stops as on Ctrl-C when its standard input is closed, so that
no job outlives the comparison that started it.
"""

import _thread
import json
import os
import re
import resource
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from torch.optim.optimizer import register_optimizer_step_post_hook

from gru_unlearn.benchmark.evaluate_job import load_for_scoring, make_suite
from gru_unlearn.benchmark.evaluation_request import EvaluationRequest
from gru_unlearn.common.files import read_json, write_json
from gru_unlearn.errors import exit_code
from gru_unlearn.evaluation import ScoreTable, evaluate, score
from gru_unlearn.models.loading import quiet
from gru_unlearn.results.run_folder import SUMMARY_FILE
from gru_unlearn.runs.recipe import make_recipe
from gru_unlearn.runs.unlearn_job import MODEL_FOLDER, load_as_set, prepare, unlearn
from gru_unlearn.training import UnlearningTrainer
from gru_unlearn.training.interrupt import Interrupted

Job = dict[str, Any]

CELL_FILE = "cell.json"
"""In a run's folder: what the run cost, and its evaluation."""

RETAIN_TABLE = "retain_scores.parquet"

SUITE_METRICS = ("forget_quality", "model_utility", "extraction_strength")


def do_reference(job: Job) -> None:
    """Measure the target and the retain model on the very rows that are evaluated along the runs, and on the suite."""
    folder = Path(job["folder"])
    prepared = prepare(make_recipe(job["settings"]))
    prepared.recipe.config.output_dir, prepared.recipe.config.disable_tqdm = str(folder), True
    folder.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {"identity": job["identity"]}
    retain_table = None
    if job["suite"] and prepared.retain_model:
        retain_table = score_retain_model(job["suite"], prepared.retain_model)
        retain_table.save(folder / RETAIN_TABLE)
    for name in ("target", "retain_model"):
        model = prepared.model if name == "target" else prepared.retain_model
        assert model is not None
        trainer = UnlearningTrainer(
            load_as_set(prepared, model),
            prepared.recipe.config,
            forget_dataset=prepared.examples["forget"],
            retain_dataset=prepared.examples["retain"],
            eval_dataset={name: rows for name, rows in prepared.examples.items() if name == "held_out"},
            processing_class=prepared.tokenizer,
        )
        content[name] = {key.removeprefix("eval_"): value for key, value in trainer.evaluate().items()}
        del trainer
        if retain_table is not None:
            content[name] |= suite_row(evaluate_on_suite(job["suite"], model, retain_table))
    write_json(folder / SUMMARY_FILE, content)


def do_cell(job: Job) -> None:
    """Train unless that is done, note what it cost, and evaluate the saved model."""
    folder = Path(job["folder"])
    cell = {} if job["train"] else read_json(folder / CELL_FILE) or {}
    if job["train"]:
        cell["cost"] = train(job["settings"])
        write_json(folder / CELL_FILE, cell)
    if job["suite"] and job["evaluate"]:
        retain_table = ScoreTable.load(folder.parents[1] / "reference" / RETAIN_TABLE)
        found = evaluate_on_suite(job["suite"], folder / MODEL_FOLDER, retain_table)
        write_json(folder / CELL_FILE, cell | {"suite": job["suite_identity"], **found})


def train(settings: Mapping[str, Any]) -> dict[str, float | None]:
    """Do one unlearning run, and return seconds per step and peak memory of this process so far."""
    with step_ends() as ends:
        summary = unlearn(prepare(make_recipe(settings)), Console(width=200))
    gpu = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None
    evaluated = {point["step"] for point in summary["trajectory"]}
    cost = {"seconds_per_step": seconds_per_step(ends, summary["steps"], evaluated)}
    return cost | {"peak_memory_mb": peak_memory_mb(), "peak_gpu_memory_mb": gpu}


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
    times = [ends[i] - ends[i - 1] for i in range(1, len(ends)) if first + i - 1 not in evaluated]
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


def evaluate_on_suite(request: Mapping[str, Any], model: Path, retain_table: ScoreTable) -> dict[str, Any]:
    """Metrics of a saved model, and why some are missing."""
    asked = replace(EvaluationRequest(**request), model=str(model))
    loaded, encoder = load_for_scoring(asked, model)
    evaluation = evaluate(loaded, encoder, make_suite(asked), retain_table=retain_table, batch_size=asked.batch_size)
    return {"metrics": evaluation.metrics, "missing": evaluation.missing}


def suite_row(evaluated: Mapping[str, Any]) -> dict[str, float | None]:
    """The metrics of an evaluation that a comparison shows; None where one is missing."""
    metrics = evaluated.get("metrics") or {}
    return {name: metrics.get(name) for name in SUITE_METRICS}


def score_retain_model(request: Mapping[str, Any], folder: Path) -> ScoreTable:
    """The scores that a suite's metrics compare with."""
    asked = EvaluationRequest(**request)
    model, encoder = load_for_scoring(asked, folder)
    return score(model, encoder, make_suite(asked), batch_size=asked.batch_size, retain_model=True)


# --- the process -----------------------------------------------------------------------------------------------------


def _stop_with_parent() -> None:
    """Wait for standard input to close, then do as Ctrl-C does."""
    while os.read(0, 4096):
        pass
    _thread.interrupt_main()


def main() -> None:
    """Do the job that stands on standard input. Exit codes as of ``gru``; the last line printed is the reason."""
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    warnings.filterwarnings("ignore")
    quiet()
    try:
        {"reference": do_reference, "cell": do_cell}[job["kind"]](job)
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
