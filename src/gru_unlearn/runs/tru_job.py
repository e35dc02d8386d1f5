"""TRU: unlearn without retain data, by subtracting rectified task vectors of groups of the forget rows."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from gru_unlearn.models.loading import free_memory
from gru_unlearn.models.weights import hash_weights
from gru_unlearn.reporting.measured import verdict_of_folder
from gru_unlearn.reporting.progress import stages
from gru_unlearn.reporting.prose import say
from gru_unlearn.results.model_metrics import AlphaPoint
from gru_unlearn.results.row_examples import Moment
from gru_unlearn.results.run_summary import TruMethod, TruResults, TruSummary
from gru_unlearn.runs.alpha_search import choose_point, found_mark, scan, write_model
from gru_unlearn.runs.example_log import ExampleLog
from gru_unlearn.runs.manner_file import write_manner
from gru_unlearn.runs.retain_rows import write_found_rows
from gru_unlearn.runs.run_models import load_on_device
from gru_unlearn.runs.run_precision import head_line
from gru_unlearn.runs.run_preparation import Prepared
from gru_unlearn.runs.run_results import matched_retention, record_of
from gru_unlearn.runs.task_models import TASKS, VECTORS, make_vectors
from gru_unlearn.runs.tru_preparation import PreparedTru


def tru(prepared: PreparedTru, console: Console, *, keep: bool = False) -> TruSummary:
    """Run to the end and return the summary; it also stands in ``summary.json`` beside the model.

    An interrupted run goes on with the task models it lacks.

    Args:
        prepared: from :func:`gru_unlearn.runs.tru_preparation.prepare_tru`.
        console: for progress.
        keep: leave task models and task vectors in the run's folder.

    Raises:
        NonFiniteError: a fine-tuning, a task vector or a result became NaN or infinite.
        UserError: another process holds the folder.
    """
    run, options = prepared.run, prepared.options
    with run.claim.held() as folder:
        started = time.perf_counter()
        if run.claim.resume:
            say(console, f"Continuing the interrupted run in {run.output}.")
        line = head_line(run)
        if line:
            say(console, line)
        write_found_rows(run.run_rows, folder)
        groups = make_vectors(prepared, console, keep=keep)
        mark = found_mark(run)
        goal = run.recipe.config.stop_at_forget_prob if mark is None else mark.value
        trajectory = {method: scan(run, options, method, goal, console) for method in ("tru", "negated")}
        chosen = {method: _result(points, goal, options.alpha) for method, points in trajectory.items()}
        results = TruResults(forget_target=goal, tru=chosen["tru"], negated=chosen["negated"])
        if mark is not None:
            results.mark = mark
        write_model(run, "tru", results.tru.alpha, folder.model)
        write_manner(run, folder.model)
        _ask(run, folder.model, console)
        summary = TruSummary(
            **dict(record_of(run, time.perf_counter() - started)),
            results=results,
            trajectory=trajectory,
            groups=groups,
            options=asdict(options),
        )
        summary.saved_sha256 = hash_weights(folder.model)
        summary.verdict = verdict_of_folder(folder, summary, None)
        folder.finish(summary)
        if not keep:
            for name in (TASKS, VECTORS):
                shutil.rmtree(run.output / name)
    return summary


def _ask(run: Prepared, saved: Path, console: Console) -> None:
    """Look at single rows as runs do: before, after, and with the retain model."""
    models: dict[Moment, Path] = {"before": run.model.folder, "after": saved}
    if run.retain_model is not None:
        models["retain_model"] = run.retain_model.folder
    log = ExampleLog(run)
    for moment, folder in models.items():
        model = load_on_device(run, folder)
        with stages(console, f"examples, {moment.replace('_', ' ')}") as on_progress:
            log.see(moment, model, on_progress)
        del model
        free_memory()
    log.write()


def _result(points: Sequence[AlphaPoint], mark: float | None, fixed: float | None) -> TruMethod:
    """The chosen point, with retention at matched forgetting along α as along the steps of a run."""
    chosen = choose_point(points, mark, fixed)
    return TruMethod.model_validate({**chosen.to_json(), **matched_retention(points, mark)})
