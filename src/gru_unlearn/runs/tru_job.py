"""TRU: unlearn without retain data, by subtracting rectified task vectors of groups of the forget rows."""

import math
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, set_seed

from gru_unlearn.common.sequences import evenly_spread
from gru_unlearn.data import Example
from gru_unlearn.errors import NonFiniteError, UserError
from gru_unlearn.evaluation.matched import retention_at_matched_forgetting
from gru_unlearn.objectives.retain import nll
from gru_unlearn.common.files import read_json
from gru_unlearn.common.files import write_json
from gru_unlearn.task_vectors import measure_conflicts, negate_task_vector, save_task_vector
from gru_unlearn.training import UnlearningTrainer, answer_logps
from gru_unlearn.models.loading import free_memory
from gru_unlearn.reporting.progress import progress_bar
from gru_unlearn.runs.recipe import make_recipe
from gru_unlearn.runs.tru_options import TruOptions
from gru_unlearn.common.files import finish, unfinished
from gru_unlearn.results.run_folder import SUMMARY_FILE, RunFolder
from gru_unlearn.runs.unlearn_job import MODEL_FOLDER, Prepared, load_as_set, prepare, provenance, trainable_model

TASKS, VECTORS = "tasks", "vectors"
CONFLICTS_FILE = "conflicts.json"
METHODS = ("tru", "negated")
SHARD_SIZE = "2GB"
"""Task models are saved in shards of at most this, which bounds the memory of the algebra on them."""

DEFAULTS = {"output_dir": "runs/tru", "warmup_steps": 0}
"""No warm-up: a group of few rows has few steps, and the first step of a warm-up has the rate 0."""

FIXED = {
    "objective": "ga",
    "rectification": "none",
    "eval_strategy": "no",
    "eval_on_start": False,
    "save_strategy": "no",
    "stop_when_forgotten": False,
    "keep_best": None,
    "eval_suite": None,
}
"""Settings of ``gru unlearn`` that have no meaning here: fine-tuning minimises −log p of the answers."""


@dataclass(frozen=True)
class PreparedTru:
    """A run whose every input was found and checked; nothing has been written yet."""

    run: Prepared
    options: TruOptions
    groups: list[list[Example]]
    """the forget examples in contiguous blocks"""


def prepare_tru(settings: Mapping[str, Any], options: TruOptions, *, overwrite: bool = False) -> PreparedTru:
    """Check settings, data, models' folders and output folder.

    Args:
        settings: names and values of a recipe, as for ``gru unlearn``.
        options: groups and α.
        overwrite: discard a run in the output folder.

    Raises:
        UserError: the first thing that cannot work.
    """
    for name in settings:
        if name in FIXED:
            raise UserError(
                f"{name} has no meaning in gru tru: its task models are fine-tuned on −log p of the answers"
            )
    recipe = make_recipe({**DEFAULTS, **settings, **FIXED})
    if not (recipe.retain_model or recipe.config.stop_at_forget_prob or options.alpha):
        raise UserError(
            "nothing says how much to forget: pass --retain-model, --stop-at-forget-prob P (mean probability of the "
            "forget answers to come down to), or --alpha"
        )
    identity = {**recipe.settings, **{f"tru_{name}": value for name, value in _plain(options).items()}}
    run = prepare(replace(recipe, settings=identity), overwrite=overwrite)
    return PreparedTru(run, options, contiguous_groups(run.examples["forget"], options.groups))


def _plain(options: TruOptions) -> dict[str, Any]:
    return asdict(options) | {"alphas": list(options.alphas)}


def contiguous_groups(examples: Sequence[Example], count: int) -> list[list[Example]]:
    """Blocks of neighbouring examples, as equal as can be. Files list rows by author or topic, so blocks keep those
    together.

    Args:
        examples: the forget examples (for plain text, its windows).
        count: G.

    Raises:
        UserError: fewer examples than groups, or a single example.
    """
    rows = len(examples)
    if rows < 2:
        raise UserError("TRU needs at least 2 forget rows, to set one group against the others; got 1")
    if count > rows:
        raise UserError(f"{rows} forget rows cannot make {count} groups: pass --groups {rows} or fewer")
    return [list(examples[rows * i // count : rows * (i + 1) // count]) for i in range(count)]


def tru(prepared: PreparedTru, console: Console, *, keep: bool = False) -> dict[str, Any]:
    """Run to the end and return the summary; it also stands in ``summary.json`` beside the model.

    An interrupted run goes on with the task models it lacks.

    Args:
        prepared: from :func:`prepare_tru`.
        console: for progress.
        keep: leave task models and task vectors in the run's folder.

    Raises:
        NonFiniteError: a fine-tuning, a task vector or a result became NaN or infinite.
        UserError: another process holds the folder.
    """
    run, out = prepared.run, prepared.run.output
    with RunFolder(out).held(run.identity, resume=run.resume):
        started = time.perf_counter()
        if run.resume:
            console.print(f"Continuing the interrupted run in {out}.", soft_wrap=True)
        make_vectors(prepared, console, keep=keep)
        mark = forget_mark(run)
        trajectories = {method: _scan(prepared, method, mark, console) for method in METHODS}
        chosen = {method: _choose(points, mark, prepared.options.alpha) for method, points in trajectories.items()}
        _write_model(out, "tru", chosen["tru"]["alpha"], out / MODEL_FOLDER)
        summary = _summary(prepared, trajectories, chosen, mark, time.perf_counter() - started)
        write_json(out / SUMMARY_FILE, summary)
        if not keep:
            for folder in (TASKS, VECTORS):
                shutil.rmtree(out / folder)
        return summary


# --- task models and task vectors ------------------------------------------------------------------------------------


def make_vectors(prepared: PreparedTru, console: Console, *, keep: bool = False) -> None:
    """Fine-tune what is not there yet and write ``vectors/tru`` and ``vectors/negated`` to the run's folder.

    Raises:
        NonFiniteError: a fine-tuning became NaN or infinite.
        UserError: a fine-tuning changed nothing.
    """
    out = prepared.run.output
    vectors, tasks = out / VECTORS, out / TASKS
    if not _complete(vectors):
        tune_task_models(prepared, console)
        target, groups, rests, whole = task_folders(prepared)
        shutil.rmtree(vectors, ignore_errors=True)
        console.print(f"Task vectors of {len(groups)} groups ...")
        conflicts = measure_conflicts(target, groups, rests)
        if not all(conflict.group_norm and conflict.rest_norm for conflict in conflicts):
            raise UserError(
                "a fine-tuning moved no weight: raise --learning-rate or --num-train-epochs, or lower --warmup-steps"
            )
        save_task_vector(target, groups, rests, vectors / "tru", granularity=prepared.options.granularity)
        save_task_vector(target, [whole], [], vectors / "negated", rectified=False)
        rows = [len(group) for group in prepared.groups]
        write_json(
            vectors / CONFLICTS_FILE,
            [
                {"rows": count, **asdict(conflict), "cosine": conflict.cosine}
                for count, conflict in zip(rows, conflicts, strict=True)
            ],
        )
    if not keep and tasks.is_dir():
        for folder in tasks.iterdir():
            if folder.name != "target":
                shutil.rmtree(folder)


def _complete(vectors: Path) -> bool:
    """The file that is written last is there."""
    return (vectors / CONFLICTS_FILE).is_file()


def task_folders(prepared: PreparedTru) -> tuple[Path, list[Path], list[Path], Path]:
    """Target, models tuned on each group, on all other groups, and on all rows."""
    tasks, numbers = prepared.run.output / TASKS, range(1, len(prepared.groups) + 1)
    groups = [tasks / f"group-{n}" for n in numbers]
    # Of two groups, each is all that is outside the other.
    rests = groups[::-1] if len(groups) == 2 else [tasks / f"rest-{n}" for n in numbers]
    return tasks / "target", groups, rests, tasks / "all"


def tune_task_models(prepared: PreparedTru, console: Console) -> None:
    """The target, saved anew, and the 2G + 1 models tuned from it (3 for two groups), each in a folder that is whole
    or absent.

    The target is loaded and saved once because hub files may name or tie their tensors in another way than the saved
    task models do.

    Raises:
        NonFiniteError: loss or gradients of a fine-tuning became NaN or infinite.
    """
    target, groups, rests, whole = task_folders(prepared)
    everything = [example for group in prepared.groups for example in group]
    jobs = {whole: everything}
    for number, group in enumerate(prepared.groups):
        jobs[groups[number]] = group
        jobs[rests[number]] = [row for other in prepared.groups if other is not group for row in other]
    if not target.is_dir():
        _save_whole(load_as_set(prepared.run, prepared.run.model), prepared.run, target)
    missing = {folder: rows for folder, rows in jobs.items() if not folder.is_dir()}
    if len(missing) < len(jobs):
        console.print(f"{len(jobs) - len(missing)} of {len(jobs)} task models are there already.")
    for number, (folder, rows) in enumerate(missing.items(), start=len(jobs) - len(missing) + 1):
        _fine_tune(prepared.run, rows, folder, console, f"task model {number} of {len(jobs)}, {folder.name}")


def _fine_tune(run: Prepared, rows: list[Example], folder: Path, console: Console, title: str) -> None:
    """Tune the target on −log p of the rows' answers; adapters are merged."""
    config: Any = run.recipe.config
    config.disable_tqdm = True  # our own progress instead
    set_seed(config.seed)
    started = time.perf_counter()
    progress = _Steps(console, title)
    trainer = UnlearningTrainer(
        trainable_model(run),
        config,
        forget_dataset=rows,
        processing_class=run.tokenizer,
        objective=nll,
        callbacks=[progress],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    try:
        result = trainer.train()
    finally:
        progress.bar.stop()
    model: Any = trainer.model
    if run.recipe.use_peft:
        model = model.float().merge_and_unload()  # in bfloat16 the sum would round most of the change away
    _save_whole(model, run, folder)
    loss, seconds = result.training_loss, time.perf_counter() - started
    console.print(f"{title}: {result.global_step} steps, mean loss {loss:.4f}, {seconds:.1f} s", soft_wrap=True)
    del trainer, model
    free_memory()


class _Steps(TrainerCallback):
    """A bar that follows the optimizer's steps."""

    def __init__(self, console: Console, title: str) -> None:
        self.bar, self.title = progress_bar(console), title

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar.start()
        self.task = self.bar.add_task(self.title, total=state.max_steps, note="")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar.update(self.task, completed=state.global_step)


def _save_whole(model: Any, run: Prepared, folder: Path) -> None:
    """The folder is whole or absent."""
    part = unfinished(folder)
    model.save_pretrained(part, max_shard_size=SHARD_SIZE)
    run.tokenizer.save_pretrained(part)
    finish(folder)


# --- the search for α ------------------------------------------------------------------------------------------------


def forget_mark(run: Prepared) -> float | None:
    """How far the forget probability should come down: as set, else to the retain model's, if there is one."""
    if run.recipe.config.stop_at_forget_prob is not None:
        return run.recipe.config.stop_at_forget_prob
    return None if run.retain_model is None else _probabilities(run, run.retain_model, ["forget"])["forget_prob"]


def _scan(prepared: PreparedTru, method: str, mark: float | None, console: Console) -> list[dict[str, float]]:
    """Mean answer probabilities at 0 and each α, up to the first that reaches the mark, and at least to a fixed α."""
    run, fixed = prepared.run, prepared.options.alpha
    points: list[dict[str, float]] = []
    with progress_bar(console) as bar:
        task = bar.add_task(f"alpha, {method}", total=len(prepared.options.scanned) + 1, note="")
        for alpha in [0.0, *prepared.options.scanned]:
            point = {"alpha": alpha, **probabilities_at(run, method, alpha, run.examples)}
            points.append(point)
            note = " · ".join(f"{name.removesuffix('_prob')} {point[name]:.3f}" for name in point if name != "alpha")
            bar.update(task, advance=1, note=note)
            if bar.disable:
                console.print(f"{method} · alpha {alpha:g} · {note}", soft_wrap=True)
            if (mark is None or point["forget_prob"] <= mark) and (fixed is None or alpha >= fixed):
                break
    return points


def probabilities_at(run: Prepared, method: str, alpha: float, names: Iterable[str]) -> dict[str, float]:
    """Name of each set + ``_prob`` → mean probability of its answers, for the model at this α.

    The model is written to disk and loaded like any other: what is measured is what would be saved.

    Raises:
        NonFiniteError: the model gives no finite probabilities.
    """
    candidate = run.output / "candidate"
    try:
        _write_model(run.output, method, alpha, candidate)
        values = _probabilities(run, candidate, names)
    finally:
        shutil.rmtree(candidate, ignore_errors=True)
    if not all(math.isfinite(value) for value in values.values()):
        raise NonFiniteError(f"at alpha {alpha:g} the model's probabilities are not finite: pass smaller --alphas")
    return values


def _write_model(out: Path, method: str, alpha: float, folder: Path) -> None:
    """θ − α · the method's task vector; a finished folder from an interrupted run is replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    negate_task_vector(out / TASKS / "target", out / VECTORS / method, folder, alpha)


def _probabilities(run: Prepared, folder: Path, names: Iterable[str]) -> dict[str, float]:
    config = run.recipe.config
    model: Any = load_as_set(run, folder)
    model = model.to(config.device)
    score = partial(
        answer_logps,
        model,
        batch_size=config.per_device_eval_batch_size,
        pad_token_id=run.tokenizer.pad_token_id,
        device=config.device,
    )
    # All forget rows, because the mark is over all of them; of the others an even selection.
    limits = {"forget": None, "retain": config.eval_max_rows, "held_out": config.eval_max_rows}
    chosen = {name: evenly_spread(run.examples[name], limits[name]) for name in names}
    values = {f"{name}_prob": score(examples).mean_probability for name, examples in chosen.items()}
    del model, score
    free_memory()
    return values


def _choose(points: Sequence[dict[str, float]], mark: float | None, fixed: float | None) -> dict[str, float]:
    """The fixed α's point; else the first at or below the mark; else the one that forgot most."""
    for point in points:
        if point["alpha"] == fixed or (fixed is None and mark is not None and point["forget_prob"] <= mark):
            return point
    return min(points, key=lambda point: point["forget_prob"])


def _matched(points: Sequence[dict[str, float]], mark: float | None) -> dict[str, float | None]:
    """Retention at matched forgetting, along α as along the steps of a run."""
    return {
        name: None if mark is None else retention_at_matched_forgetting(points, mark, kept)
        for name, kept in (("rmf", "retain_prob"), ("rmf_held_out", "held_out_prob"))
        if kept in points[0]
    }


def _summary(
    prepared: PreparedTru,
    trajectories: Mapping[str, list[dict[str, float]]],
    chosen: Mapping[str, dict[str, float]],
    mark: float | None,
    seconds: float,
) -> dict[str, Any]:
    run = prepared.run
    return {
        "command": "tru",
        "results": {
            "forget_target": mark,
            **{method: chosen[method] | _matched(trajectories[method], mark) for method in METHODS},
        },
        "trajectory": trajectories,
        "groups": read_json(run.output / VECTORS / CONFLICTS_FILE),
        "seconds": round(seconds, 2),
        "seed": run.recipe.config.seed,
        "options": _plain(prepared.options),
        **provenance(run),
    }
