"""The demonstration: on the built-in benchmark, unlearn with NPO plain, with GRU and as recommended, and compare."""

import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import TaskID

from gru_unlearn.benchmark.evaluation_request import EvaluationRequest
from gru_unlearn.common.versions import versions
from gru_unlearn.comparison.comparison_suite import evaluate_on_suite, score_retain_model
from gru_unlearn.comparison.method_verdicts import judge_demo, said_by_set
from gru_unlearn.evaluation import Evaluation
from gru_unlearn.reporting.progress import progress_bar, stages
from gru_unlearn.reporting.prose import say
from gru_unlearn.results.comparison_summary import DemoRow, DemoSample, DemoSummary
from gru_unlearn.results.file_model import JsonObject
from gru_unlearn.results.model_metrics import Metrics
from gru_unlearn.results.row_kinds import ROW_KINDS
from gru_unlearn.results.run_folder import RunFolder
from gru_unlearn.results.run_summary import RunSummary
from gru_unlearn.runs.recipe import make_recipe
from gru_unlearn.runs.run_preparation import prepare
from gru_unlearn.runs.unlearn_job import unlearn
from gru_unlearn.training.builtin import Builtin, builtin_benchmark

LEARNING_RATES = {"npo": 3e-4, "ga": 1e-4}
"""Objective → learning rate of plain runs and of GRU's, for which a higher one keeps less."""

RECOMMENDED_RATE = "auto"
"""As it runs by itself; constant rates cost it a little (docs/results.md)."""

METHODS = {"NPO": ("npo", "none"), "NPO+GRU": ("npo", "gru"), "NPO+recommended": ("npo", "recommended")}
"""Name → objective and rectification."""

RETAIN_ROWS = 32
"""A step, for all who look at retain rows: nobody gets more of them than others."""

METRICS = {
    **{kind.probability: kind.metric for kind in ROW_KINDS},
    **{f"{kind.key}_exact_answers": f"{kind.key}_exact_answers" for kind in ROW_KINDS},
    **{name: name for name in ("forget_quality", "model_utility", "extraction_strength")},
}
"""Key in a row of the results → metric of the built-in suite."""


def builtin_run(objective: str, rectification: str, output_dir: Path, seed: int) -> JsonObject:
    """Settings of one run on the built-in benchmark; it stops when as much is forgotten as the retain model lacks."""
    return {
        "model": "builtin:target",
        "retain_model": "builtin:retain",
        "forget": "builtin:forget",
        "retain": "builtin:retain",
        "held_out": "builtin:held_out",
        "objective": objective,
        "rectification": rectification,
        "learning_rate": _learning_rate(objective, rectification),
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


def _learning_rate(objective: str, rectification: str) -> float | str:
    if rectification == "recommended":
        return RECOMMENDED_RATE
    return LEARNING_RATES[objective]


def demo(out: Path, console: Console, *, seed: int = 0) -> DemoSummary:
    """Run the demonstration and return its summary, which also stands in ``out/summary.json``.

    A finished demonstration in ``out`` is done anew; one that was interrupted goes on with the runs it lacks.

    Raises:
        UserError: ``out`` holds something else.
    """
    started = time.perf_counter()
    place = RunFolder(out)
    earlier = place.started_with() or {}
    again = place.is_finished and earlier.get("command") == "demo"
    claim = place.claim({"command": "demo", "seed": seed, "versions": versions()}, overwrite=again)
    with claim.held() as folder:
        built = _build(console)
        models = {"target": built.target, "retain model": built.retain_model}
        runs = {}
        for name, (objective, rectification) in METHODS.items():
            run = RunFolder(out / f"{objective}-{rectification}")
            settings = builtin_run(objective, rectification, run.path, seed) | {"retain_batch_size": RETAIN_ROWS}
            runs[name] = _run_once(run, settings, console)
            models[name] = run.model
        evaluations = _evaluate(built, models, console)
        summary = DemoSummary(
            target=_metrics(evaluations["target"]),
            retain_model=_metrics(evaluations["retain model"]),
            results=[_row(name, run, evaluations[name]) for name, run in runs.items()],
            sample={name: _sample(name, evaluations) for name in ("forget", "held_out")},
            seed=seed,
            seconds=round(time.perf_counter() - started, 1),
            versions=versions(),
            forget_rows=len(evaluations["target"].table.answers("forget")),
            target_said=said_by_set(evaluations["target"].table),
            retain_model_said=said_by_set(evaluations["retain model"].table),
        )
        judge_demo(summary)
        folder.finish(summary)
        return summary


def _build(console: Console) -> Builtin:
    """The built-in models, with a bar while they are trained."""
    bar = progress_bar(console)
    tasks: dict[str, TaskID] = {}

    def show(model: str, done: float) -> None:
        if not tasks:
            say(console, "First use: training the built-in models from scratch (about a minute on two cores).")
            bar.start()
        if model not in tasks:
            tasks[model] = bar.add_task(model.replace("_", " "), total=100, note="")
        bar.update(tasks[model], completed=round(100 * done))

    try:
        return builtin_benchmark(on_progress=show)
    finally:
        bar.stop()


def _run_once(run: RunFolder, settings: JsonObject, console: Console) -> RunSummary:
    """The run's summary; a run that an interrupted demonstration finished is not done twice."""
    finished = RunSummary.read(run.summary_file)
    if finished is not None:
        console.print(f"{run.path.name}: finished before the interruption, taken as it is.")
        return finished
    return unlearn(prepare(make_recipe(settings)), console)


def _evaluate(built: Builtin, models: Mapping[str, Path], console: Console) -> dict[str, Evaluation]:
    """Every model on the built-in suite."""
    request = EvaluationRequest(str(built.target), data=str(built.data), batch_size=64)
    retain_table = score_retain_model(request, built.retain_model)
    evaluations = {}
    for name, model in models.items():
        with stages(console, f"evaluating {name}") as on_progress:
            evaluations[name] = evaluate_on_suite(request, model, retain_table, on_progress)
    return evaluations


def _metrics(evaluation: Evaluation) -> Metrics:
    return Metrics.model_validate({name: evaluation.metrics[metric] for name, metric in METRICS.items()})


def _row(name: str, run: RunSummary, evaluation: Evaluation) -> DemoRow:
    """What came of a run, and the metrics of its model, which are measured more closely than along the run."""
    measured = {**run.results.to_json(), **_metrics(evaluation).to_json()}
    said = said_by_set(evaluation.table)
    return DemoRow.model_validate({"name": name, "steps": run.steps, **measured, "said": said})


def _sample(name: str, evaluations: Mapping[str, Evaluation]) -> DemoSample:
    """The first row of a set with every model's answer."""
    first = evaluations["target"].table.answers(name)[0]
    answers = {model: evaluation.table.generations(name)[0] for model, evaluation in evaluations.items()}
    return DemoSample(question=first.prompt, truth=first.answer, answers=answers)
