"""A fair comparison: objectives × rectifications × learning rates × seeds on one target, each run in its own
process (:mod:`cell`)."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import IO, Any

import torch
from rich.console import Console

from gru_unlearn.benchmark.evaluate_job import make_suite
from gru_unlearn.benchmark.evaluation_request import EvaluationRequest
from gru_unlearn.common.files import read_json, write_json, write_text
from gru_unlearn.common.versions import versions
from gru_unlearn.comparison.cell import CELL_FILE, Job, suite_row
from gru_unlearn.comparison.comparison_tables import LEVELS, RULE, aggregate, cell_line
from gru_unlearn.comparison.demo_job import builtin_run
from gru_unlearn.comparison.pareto import pareto_svg
from gru_unlearn.data import fingerprint
from gru_unlearn.errors import NonFiniteError, StorageError, UserError, nearest
from gru_unlearn.evaluation.matched import retention_at_matched_forgetting
from gru_unlearn.reporting.progress import progress_bar
from gru_unlearn.results.run_folder import RUN_FILE, SUMMARY_FILE, RunFolder
from gru_unlearn.runs.recipe import Recipe, make_recipe
from gru_unlearn.runs.unlearn_job import prepare
from gru_unlearn.training.interrupt import Interrupted

IDENTITY = {"command": "compare"}
"""Marks the folder of a comparison. Its runs are identified one by one, so that seeds and methods can be added."""

DEFAULTS = {"eval_strategy": "steps", "save_strategy": "no", "stop_when_forgotten": True, "report_examples": 0}
"""Settings of every run unless the recipe or a flag says otherwise."""

OF_A_METHOD = (
    "new_gradient_weight", "retain_batch_size", "retain_loss", "retain_weight", "retain_placement", "max_grad_norm",
)  # fmt: skip
"""Settings in which methods may differ. All others are the same for all runs: a comparison would say nothing else."""

SUITES = ("none", "builtin", "tofu", "own")
KEPT = {"rmf": "retain_prob", "rmf_held_out": "held_out_prob"}
CURVE_POINTS = 33

SECONDS_TO_STOP = 120
"""How long a run whose comparison was killed may take to its next whole step, and to save it."""


# --- what is compared ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One run of the matrix; its folder's name is its name."""

    objective: str
    rectification: str  # with settings of its own, if any: gru@retain_batch_size=32
    learning_rate: float
    seed: int
    folder: Path
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Matrix:
    """What is compared: the settings that all runs share, and what differs between them."""

    settings: Mapping[str, Any]
    objectives: Sequence[str]
    rectifications: Sequence[str]
    learning_rates: Mapping[str, Sequence[float]]  # objective → its grid
    seeds: Sequence[int]
    output: Path
    suite: EvaluationRequest | None = None

    @property
    def cells(self) -> list[Cell]:
        """All runs, seed after seed, so that a comparison cut short has whole seeds."""
        return [
            self._cell(objective, rectification, rate, seed)
            for seed, objective, rectification in product(self.seeds, self.objectives, self.rectifications)
            for rate in self.learning_rates[objective]
        ]

    def _cell(self, objective: str, rectification: str, rate: float, seed: int) -> Cell:
        safe = re.sub(r"[^A-Za-z0-9_.+-]+", "+", rectification)
        folder = self.output / "runs" / f"{objective}-{safe}-lr{rate:g}-seed{seed}"
        own = {"objective": objective, "learning_rate": rate, "seed": seed, "output_dir": str(folder)}
        settings = {**DEFAULTS, **self.settings, **own, **parse_method(rectification)}
        return Cell(objective, rectification, rate, seed, folder, settings)


def parse_method(text: str) -> dict[str, str]:
    """``gru/element@retain_batch_size=32`` → ``{"rectification": "gru/element", "retain_batch_size": "32"}``.

    Raises:
        UserError: a setting without a value, given twice, or in which methods may not differ.
    """
    rectification, *parts = text.split("@")
    settings = {"rectification": rectification}
    for part in parts:
        name, _, value = part.partition("=")
        if not (name and value):
            raise UserError(f"method {text!r}: after @ comes SETTING=VALUE, as in gru@retain_batch_size=32")
        if name not in OF_A_METHOD:
            raise UserError(f"method {text!r}: {name!r} is the same for all; own are {', '.join(OF_A_METHOD)}")
        if name in settings:
            raise UserError(f"method {text!r} sets {name} twice")
        settings[name] = value
    return settings


def builtin_settings() -> dict[str, Any]:
    """What a comparison shares by default: data, models and budget of ``gru demo``."""
    own = ("objective", "rectification", "learning_rate", "seed", "output_dir")
    run = builtin_run("npo", "none", Path(), 0)
    return {name: value for name, value in run.items() if name not in own}


def suite_request(
    settings: Mapping[str, Any], suite: str | None, data: str | None, forget_split: str
) -> EvaluationRequest | None:
    """How the saved models are evaluated: by default on the built-in suite if the data are built in, else not at all.

    Raises:
        UserError: an unknown suite, or settings that no run can have.
    """
    suite = suite or ("builtin" if str(settings.get("forget")).startswith("builtin:") else "none")
    if suite not in SUITES:
        raise UserError(f"unknown suite {suite!r}{nearest(suite, SUITES)}")
    if suite == "none":
        return None
    recipe = make_recipe(settings)
    return EvaluationRequest(
        model=recipe.model,
        suite=suite,
        data=data,
        forget_split=forget_split,
        forget=recipe.forget,
        retain=recipe.retain,
        retain_model=recipe.retain_model,
        batch_size=recipe.config.per_device_eval_batch_size,
        max_length=recipe.config.max_length,
        dtype=recipe.dtype,
        trust_remote_code=recipe.trust_remote_code,
    )


# --- the whole comparison --------------------------------------------------------------------------------------------


def plan(matrix: Matrix, *, overwrite: bool = False) -> list[Job]:
    """Check every run, and return the jobs that are still to do, the reference models first. Writes nothing.

    Raises:
        UserError: the first thing that cannot work.
    """
    _check_complete(matrix)
    cells = matrix.cells
    recipes = [_measurable(make_recipe(cell.settings)) for cell in cells]
    # All runs have the same data and models. They are looked at once, by the run that needs most of them, in a folder
    # that does not exist: a run's own folder may hold it, finished.
    sample = max(zip(recipes, cells, strict=True), key=lambda pair: pair[0].config.needs_retain_set)[1].settings
    sample = {**sample, "output_dir": str(matrix.output / "runs" / "none")}
    shared = prepare(make_recipe(sample)).identity
    suite = _suite_identity(matrix.suite)
    if overwrite or RunFolder(matrix.output).started_with() != IDENTITY:
        inputs = (sample.get(name) for name in ("model", "retain_model", "forget", "retain", "held_out"))
        RunFolder(matrix.output).check(IDENTITY, overwrite=overwrite, inputs=inputs)
    jobs = [
        _reference_job(matrix, sample, {**shared, "settings": matrix.settings, "suite": suite, "versions": versions()})
    ]
    for cell, recipe in zip(cells, recipes, strict=True):
        settings = {key: value for key, value in recipe.settings.items() if key != "output_dir"}
        jobs.append(_cell_job(matrix, cell, {**shared, "settings": settings}, suite, overwrite))
    return [job for job in jobs if overwrite or job["train"] or job["evaluate"]]


def _check_complete(matrix: Matrix) -> None:
    for name, why in (("retain_model", "its forget probability is the mark"), ("retain", "the rows that must stay")):
        if not matrix.settings.get(name):
            raise UserError(f"gru compare needs --{name.replace('_', '-')}: {why}")
    names = [cell.folder.name for cell in matrix.cells]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"two runs of the matrix would share the folder {twice[0]}: leave one of them out")


def _measurable(recipe: Recipe) -> Recipe:
    if recipe.config.eval_strategy == "no" or not recipe.config.eval_on_start:
        raise UserError("gru compare reads retention off evaluations along the run: leave eval_on_start on, and set "
                        "eval_strategy to steps or epoch")  # fmt: skip
    return recipe


def _suite_identity(request: EvaluationRequest | None) -> dict[str, Any] | None:
    if request is None:
        return None
    sets = make_suite(request).sets
    return {
        "request": {key: value for key, value in asdict(request).items() if key not in ("model", "batch_size")},
        "data": {name: fingerprint(item.record for item in rows.items) for name, rows in sets.items()},
    }


def _as_json(content: Any) -> Any:
    """As it will be when it is read back."""
    return json.loads(json.dumps(content, default=str))


def _reference_job(matrix: Matrix, settings: Mapping[str, Any], identity: Mapping[str, Any]) -> Job:
    folder = matrix.output / "reference"
    identity = _as_json(identity)
    known = (read_json(folder / SUMMARY_FILE) or {}).get("identity") == identity
    job = {"kind": "reference", "name": "reference", "folder": folder, "settings": settings, "identity": identity}
    return _as_json(job | {"suite": matrix.suite and asdict(matrix.suite), "train": False, "evaluate": not known})


def _cell_job(matrix: Matrix, cell: Cell, identity: Mapping[str, Any], suite: Any, overwrite: bool) -> Job:
    trained = (cell.folder / SUMMARY_FILE).is_file() and read_json(cell.folder / RUN_FILE) == _as_json(identity)
    if not trained and not overwrite:
        RunFolder(cell.folder).check(_as_json(identity))
    evaluated = suite is None or (read_json(cell.folder / CELL_FILE) or {}).get("suite") == suite
    job = {"kind": "cell", "name": cell.folder.name, "folder": cell.folder, "settings": cell.settings}
    job |= {"method": cell.rectification, "suite": matrix.suite and asdict(matrix.suite), "suite_identity": suite}
    return _as_json(job | {"train": overwrite or not trained, "evaluate": overwrite or not (trained and evaluated)})


def compare(matrix: Matrix, console: Console, *, jobs: int = 1, overwrite: bool = False) -> dict[str, Any]:
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
    started, cells = time.perf_counter(), matrix.cells
    _wait_for_stopping_runs(matrix)
    to_do = plan(matrix, overwrite=overwrite)
    reference, runs = ([job for job in to_do if job["kind"] == kind] for kind in ("reference", "cell"))
    with RunFolder(matrix.output).held(
        IDENTITY, resume=not overwrite and RunFolder(matrix.output).started_with() == IDENTITY
    ):
        (matrix.output / SUMMARY_FILE).unlink(missing_ok=True)
        if len(runs) < len(cells):
            console.print(f"{len(cells) - len(runs)} of {len(cells)} runs are finished and stay as they are.")
        for reason in run_jobs(reference, 1, matrix.output / "logs", console).values():
            raise UserError(f"the target or the retain model cannot be measured: {reason}")
        failed = run_jobs(runs, jobs, matrix.output / "logs", console)
        summary = summarize(matrix, failed) | {"seconds": round(time.perf_counter() - started, 1)}
        if all(cell["status"] == "failed" for cell in summary["cells"]):
            raise NonFiniteError(f"not one run came to its end; the first: {summary['cells'][0]['reason']}")
        write_json(matrix.output / SUMMARY_FILE, summary)
        write_text(matrix.output / "pareto.svg", pareto_svg(summary))
        return summary


def _wait_for_stopping_runs(matrix: Matrix) -> None:
    """Runs of a comparison that was killed a moment ago may still be saving their last step."""
    RunFolder(matrix.output).wait_until_free(0)
    for cell in matrix.cells:
        RunFolder(cell.folder).wait_until_free(SECONDS_TO_STOP)


def summarize(matrix: Matrix, failed: Mapping[str, str]) -> dict[str, Any]:
    """Every number of every run, and what they come to. ``failed``: a run's name → why it has no numbers."""
    reference = read_json(matrix.output / "reference" / SUMMARY_FILE)
    cells = [cell_row(cell, failed.get(cell.folder.name)) for cell in matrix.cells]
    return {
        "command": "compare",
        "rule": RULE,
        "forget_target": next((cell["forget_target"] for cell in cells if cell["status"] == "done"), None),
        "target": reference["target"],
        "retain_model": reference["retain_model"],
        "aggregates": aggregate(cells),
        "cells": cells,
        "settings": {**DEFAULTS, **matrix.settings},
        "learning_rates": dict(matrix.learning_rates),
        "suite": _suite_identity(matrix.suite),
        "versions": versions(),
    }


def cell_row(cell: Cell, failure: str | None) -> dict[str, Any]:
    """A run's numbers, read from its folder.

    ``status`` is failed, with the ``reason``, where it did not end; a run that ended but could not be evaluated is done
    and says why in ``evaluation_failed``.
    """
    row = {key: value for key, value in vars(cell).items() if key not in ("folder", "settings")}
    row |= {"name": cell.folder.name}
    summary, more = read_json(cell.folder / SUMMARY_FILE), read_json(cell.folder / CELL_FILE) or {}
    if summary is None:
        return row | {"status": "failed", "reason": failure}
    row |= {"status": "done"} | ({"evaluation_failed": failure} if failure else {})
    points, results = summary["trajectory"], summary["results"]
    row |= {"steps": summary["steps"], **more.get("cost", {}), **suite_row(more)}
    row |= {key: value for key, value in results.items() if key not in row}
    evaluated = {"metrics": more.get("metrics"), "missing": more.get("missing")}
    return row | along_the_run(points, results["forget_target"]) | evaluated | {"trajectory": points}


def along_the_run(points: Sequence[Mapping[str, float]], forget_target: float) -> dict[str, Any]:
    """What a trajectory says beside RMF: steps to f* (by its evaluations), retention at a half and a quarter, curves.

    A half or a quarter that lies below f* has None.

    A curve is ``[forget probability, kept probability]`` at evenly spaced levels from the target's forget probability
    down to f*, each at its first crossing, as far as the run got.
    """
    start = points[0]["forget_prob"]
    arrived = [point["step"] for point in points if point["forget_prob"] <= forget_target]
    row: dict[str, Any] = {"steps_to_target": arrived[0] if arrived else None, "curves": {}}
    levels = [start + (forget_target - start) * i / (CURVE_POINTS - 1) for i in range(CURVE_POINTS)]
    for name, kept in KEPT.items():
        if kept not in points[0]:
            continue
        for word, share in LEVELS.items():
            level = share * start
            before_end = level >= forget_target  # a run stops at f*; what lies below it is reached by chance
            row[f"{name}_at_{word}"] = retention_at_matched_forgetting(points, level, kept) if before_end else None
        shares = [(level, retention_at_matched_forgetting(points, level, kept)) for level in levels]
        row["curves"][kept] = [(level, share * points[0][kept]) for level, share in shares if share is not None]
    return row


def run_jobs(jobs: Sequence[Job], at_once: int, logs: Path, console: Console) -> dict[str, str]:
    """Run jobs, ``at_once`` at a time; returns name → reason of those that failed.

    Raises:
        Interrupted: Ctrl-C. The processes have stopped; a second one kills them.
        StorageError: a run found no room left to write; the others are killed, and go on from their last checkpoints.
    """
    waiting, ended, failed = list(jobs), 0, {}
    running: dict[str, tuple[Job, subprocess.Popen[bytes]]] = {}
    logs.mkdir(parents=True, exist_ok=True)
    threads = max(1, torch.get_num_threads() // at_once)
    with progress_bar(console) as bar:
        task = bar.add_task("runs" if len(jobs) > 1 else "run", total=len(jobs), note="")
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    job = waiting.pop(0)
                    running[job["name"]] = job, _start(job, logs, threads)
                time.sleep(0.1)
                for name in [name for name, (_, process) in running.items() if process.poll() is not None]:
                    job, process = running.pop(name)
                    ended += 1
                    _close_input(process)
                    if process.returncode == StorageError.exit_code:
                        raise StorageError(_reason(process.returncode, logs / f"{name}.txt"))
                    if process.returncode:
                        failed[name] = _reason(process.returncode, logs / f"{name}.txt")
                    if job["kind"] == "cell":
                        line = cell_line(_row_of(job, failed.get(name)))
                        console.print(f"{ended}/{len(jobs)} {line}", soft_wrap=True, highlight=False, markup=False)
                bar.update(task, completed=ended, note=", ".join(running))
        except KeyboardInterrupt:
            bar.update(task, note="stopping: each run saves its last step")
            _stop([process for _, process in running.values()])
            raise Interrupted(f"stopped with {ended} of {len(jobs)} runs done; the same command goes on") from None
        finally:
            for _, process in running.values():
                process.kill()
    return failed


def _row_of(job: Job, failure: str | None) -> dict[str, Any]:
    own = {name: job["settings"][name] for name in ("objective", "learning_rate", "seed")}
    return cell_row(Cell(**own, rectification=job["method"], folder=Path(job["folder"]), settings={}), failure)


def _start(job: Job, logs: Path, threads: int) -> "subprocess.Popen[bytes]":
    """In a session of its own, so that Ctrl-C reaches it once, through us."""
    with (logs / f"{job['name']}.txt").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gru_unlearn.comparison.cell"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            start_new_session=True,
        )
    with suppress(BrokenPipeError):  # it is gone already: its exit code says so
        _input_of(process).write(json.dumps(job).encode() + b"\n")
        _input_of(process).flush()
    return process


def _input_of(process: "subprocess.Popen[bytes]") -> IO[bytes]:
    assert process.stdin is not None  # each was started with a pipe
    return process.stdin


def _close_input(process: "subprocess.Popen[bytes]") -> None:
    with suppress(BrokenPipeError):  # it never read its job
        _input_of(process).close()


def _stop(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Close their standard input, which they take as Ctrl-C, and wait."""
    for process in processes:
        _close_input(process)
    for process in processes:
        process.wait()


def _reason(code: int, log: Path) -> str:
    """The last line that a failed process printed, or the signal that ended it."""
    if code < 0:
        return f"ended by signal {-code}" + (" (out of memory?)" if code == -9 else "")
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit code {code}"
