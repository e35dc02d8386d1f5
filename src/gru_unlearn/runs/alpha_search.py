"""The search for α: how much of a task vector must be subtracted until enough is forgotten."""

import math
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console

from gru_unlearn.common.sequences import evenly_spread
from gru_unlearn.errors import NonFiniteError
from gru_unlearn.models.loading import free_memory
from gru_unlearn.reporting.progress import progress_bar
from gru_unlearn.reporting.prose import say
from gru_unlearn.reporting.tables import shown
from gru_unlearn.results.mark import Mark
from gru_unlearn.results.model_metrics import AlphaPoint
from gru_unlearn.runs.marks import mark_of_retain_model, other_mark
from gru_unlearn.runs.run_models import load_on_device, mean_probability
from gru_unlearn.runs.run_preparation import Prepared
from gru_unlearn.runs.task_models import TASKS, VECTORS
from gru_unlearn.runs.tru_options import TruOptions
from gru_unlearn.task_vectors import negate_task_vector


def forget_mark(run: Prepared) -> float | None:
    """How far the forget probability should come down: as set, else to the mark, if there is one."""
    if run.recipe.config.stop_at_forget_prob is not None:
        return run.recipe.config.stop_at_forget_prob
    mark = found_mark(run)
    return None if mark is None else mark.value


def found_mark(run: Prepared) -> Mark | None:
    """The retain model's, or what stands in for it; None where there is none, or a probability is set."""
    if run.recipe.config.stop_at_forget_prob is not None:
        return None
    if run.retain_model is None:
        return other_mark(run)
    model = load_on_device(run, run.retain_model.folder)
    mark = mark_of_retain_model(run, run.retain_model, model)
    del model
    free_memory()
    return mark


def scan(run: Prepared, options: TruOptions, method: str, mark: float | None, console: Console) -> list[AlphaPoint]:
    """Mean answer probabilities at 0 and each α, up to the first that reaches the mark, and at least to a fixed α."""
    points: list[AlphaPoint] = []
    with progress_bar(console) as bar:
        task = bar.add_task(f"alpha, {method}", total=len(options.scanned) + 1, note="")
        for alpha in [0.0, *options.scanned]:
            point = probabilities_at(run, method, alpha, run.examples)
            points.append(point)
            note = " · ".join(f"{name} {shown(point.get(f'{name}_prob'))}" for name in run.examples)
            bar.update(task, advance=1, note=note)
            if bar.disable:
                say(console, f"{method} · alpha {alpha:g} · {note}")
            reached = mark is None or point.forget_prob <= mark
            if reached and (options.alpha is None or alpha >= options.alpha):
                bar.end_early(task)
                break
    return points


def choose_point(points: Sequence[AlphaPoint], mark: float | None, fixed: float | None) -> AlphaPoint:
    """The fixed α's point; else the first at or below the mark; else the one that forgot most."""
    for point in points:
        if point.alpha == fixed or (fixed is None and mark is not None and point.forget_prob <= mark):
            return point
    return min(points, key=lambda point: point.forget_prob)


def probabilities_at(run: Prepared, method: str, alpha: float, names: Iterable[str]) -> AlphaPoint:
    """Mean probability of the answers in each of these sets, for the model at this α.

    The model is written to disk and loaded like any other: what is measured is what would be saved.

    Raises:
        NonFiniteError: the model gives no finite probabilities.
    """
    candidate = run.output / "candidate"
    try:
        write_model(run, method, alpha, candidate)
        values = _probabilities(run, candidate, names)
    finally:
        shutil.rmtree(candidate, ignore_errors=True)
    if not all(map(math.isfinite, values.values())):
        raise NonFiniteError(f"at alpha {alpha:g} the model's probabilities are not finite: pass smaller --alphas")
    return AlphaPoint.model_validate({"alpha": alpha, **values})


def write_model(run: Prepared, method: str, alpha: float, folder: Path) -> None:
    """θ − α · the method's task vector; a finished folder from an interrupted run is replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    negate_task_vector(run.output / TASKS / "target", run.output / VECTORS / method, folder, alpha)


def _probabilities(run: Prepared, folder: Path, names: Iterable[str]) -> dict[str, float]:
    """Of an even selection of each set's rows, as along the steps of a run."""
    model = load_on_device(run, folder)
    values = {}
    for name in names:
        rows = evenly_spread(run.examples[name], run.recipe.config.eval_max_rows)
        values[f"{name}_prob"] = mean_probability(run, model, rows)
    del model
    free_memory()
    return values
