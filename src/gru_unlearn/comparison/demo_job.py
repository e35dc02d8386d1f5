"""The demonstration: on the built-in benchmark, unlearn with NPO and GA, each plain and with GRU, and compare."""

import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console

from gru_unlearn.benchmark.evaluate_job import load_for_scoring
from gru_unlearn.benchmark.evaluation_request import EvaluationRequest
from gru_unlearn.common.files import read_json, write_json
from gru_unlearn.common.versions import versions
from gru_unlearn.evaluation import Evaluation, ScoreTable, evaluate, score, suites
from gru_unlearn.evaluation.rows import Suite
from gru_unlearn.reporting.progress import progress_bar, stages
from gru_unlearn.results.run_folder import SUMMARY_FILE, RunFolder
from gru_unlearn.runs.recipe import make_recipe
from gru_unlearn.runs.unlearn_job import MODEL_FOLDER, prepare, unlearn
from gru_unlearn.training.builtin import Builtin, builtin_benchmark

LEARNING_RATES = {"npo": 3e-4, "ga": 1e-4}
"""Objective → learning rate, the same for plain and rectified runs."""

RECTIFICATIONS = ("none", "gru")

METRICS = {
    "forget_prob": "forget_Q_A_Prob",
    "retain_prob": "retain_Q_A_Prob",
    "held_out_prob": "held_out_Q_A_Prob",
    "forget_exact_answers": "forget_exact_answers",
    "retain_exact_answers": "retain_exact_answers",
    "held_out_exact_answers": "held_out_exact_answers",
    "forget_quality": "forget_quality",
    "model_utility": "model_utility",
    "extraction_strength": "extraction_strength",
}
"""Key in a row of the results → metric of the built-in suite."""


def builtin_run(objective: str, rectification: str, output_dir: Path, seed: int) -> dict[str, Any]:
    """Settings of one run on the built-in benchmark; it stops when as much is forgotten as the retain model lacks."""
    return {
        "model": "builtin:target",
        "retain_model": "builtin:retain",
        "forget": "builtin:forget",
        "retain": "builtin:retain",
        "held_out": "builtin:held_out",
        "objective": objective,
        "rectification": rectification,
        "learning_rate": LEARNING_RATES[objective],
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": 5,
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 64,
        "gradient_accumulation_steps": 1,
        "max_steps": 200,
        "eval_strategy": "steps",
        "eval_steps": 5,
        "save_strategy": "no",
        "stop_when_forgotten": True,
        "seed": seed,
        "output_dir": str(output_dir),
    }


def demo(out: Path, console: Console, *, seed: int = 0) -> dict[str, Any]:
    """Run the demonstration and return its summary, which also stands in ``out/summary.json``.

    A finished demonstration in ``out`` is done anew; one that was interrupted goes on with the runs it lacks.

    Raises:
        UserError: ``out`` holds something else.
    """
    started = time.perf_counter()
    identity = {"command": "demo", "seed": seed, "versions": versions()}
    earlier = RunFolder(out).started_with() or {}
    go_on = RunFolder(out).check(
        identity, overwrite=earlier.get("command") == "demo" and (out / SUMMARY_FILE).is_file()
    )
    with RunFolder(out).held(identity, resume=go_on):
        built = _build(console)
        judge = _Judge.of(built, console)
        evaluations = {
            "target": judge(built.target, "target"),
            "retain model": judge(built.retain_model, "retain model"),
        }
        runs = {}
        for objective, rectification in product(LEARNING_RATES, RECTIFICATIONS):
            folder = out / f"{objective}-{rectification}"
            name = objective.upper() + ("+GRU" if rectification == "gru" else "")
            runs[name] = _run_once(builtin_run(objective, rectification, folder, seed), console)
            evaluations[name] = judge(folder / MODEL_FOLDER, name)
        summary = {
            "command": "demo",
            "target": _row(evaluations["target"]),
            "retain_model": _row(evaluations["retain model"]),
            "results": [
                {"name": name, **run["results"], "steps": run["steps"], **_row(evaluations[name])}
                for name, run in runs.items()
            ],
            "sample": _sample(judge.suite, evaluations),
            "seed": seed,
            "seconds": round(time.perf_counter() - started, 1),
            "versions": versions(),
        }
        write_json(out / SUMMARY_FILE, summary)
        return summary


def _build(console: Console) -> Builtin:
    """The built-in models, with a bar while they are trained."""
    bar = progress_bar(console)
    tasks: dict[str, Any] = {}

    def show(model: str, done: float) -> None:
        if not tasks:
            console.print(
                "First use: training the built-in models from scratch (about a minute on two cores).", soft_wrap=True
            )
            bar.start()
        if model not in tasks:
            tasks[model] = bar.add_task(model.replace("_", " "), total=100, note="")
        bar.update(tasks[model], completed=round(100 * done))

    try:
        return builtin_benchmark(on_progress=show)
    finally:
        bar.stop()


def _run_once(settings: dict[str, Any], console: Console) -> dict[str, Any]:
    """The run's summary; a run that an interrupted demonstration finished is not done twice."""
    folder = Path(settings["output_dir"])
    recipe = make_recipe(settings)
    if (folder / SUMMARY_FILE).is_file():
        console.print(f"{folder.name}: finished before the interruption, taken as it is.")
        return read_json(folder / SUMMARY_FILE)
    return unlearn(prepare(recipe), console)


@dataclass(frozen=True)
class _Judge:
    """Evaluates a model folder on the built-in suite, against the retain model's scores."""

    suite: Suite
    retain_table: ScoreTable
    console: Console

    @classmethod
    def of(cls, built: Builtin, console: Console) -> "_Judge":
        suite = suites.builtin(str(built.data))
        model, encoder = load_for_scoring(EvaluationRequest(str(built.retain_model)), built.retain_model)
        return cls(suite, score(model, encoder, suite, batch_size=64, retain_model=True), console)

    def __call__(self, folder: Path, title: str) -> Evaluation:
        model, encoder = load_for_scoring(EvaluationRequest(str(folder)), folder)
        with stages(self.console, f"evaluating {title}") as on_progress:
            return evaluate(
                model, encoder, self.suite, retain_table=self.retain_table, batch_size=64, on_progress=on_progress
            )


def _row(evaluation: Evaluation) -> dict[str, float | None]:
    return {name: evaluation.metrics[metric] for name, metric in METRICS.items()}


def _sample(suite: Suite, evaluations: dict[str, Evaluation]) -> dict[str, Any]:
    """The first forget row, and the first retain row, each with every model's answer."""
    return {
        name: {
            "question": suite.sets[name].items[0].record.prompt,
            "truth": suite.sets[name].items[0].record.answer,
            "answers": {model: evaluation.table.generations(name)[0] for model, evaluation in evaluations.items()},
        }
        for name in ("forget", "held_out")
    }
