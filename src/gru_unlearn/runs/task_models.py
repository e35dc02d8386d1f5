"""TRU's task models, fine-tuned on groups of the forget rows, and the task vectors between them and the target.

Each stands in a folder of the run that is whole or absent: an interrupted run makes those that it lacks.
"""

import shutil
import time
from contextlib import closing
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from transformers import set_seed

from gru_unlearn.common.files import read_json, whole_folder, write_json
from gru_unlearn.data import Example
from gru_unlearn.errors import UserError
from gru_unlearn.models.loading import free_memory
from gru_unlearn.objectives.retain import nll
from gru_unlearn.reporting.prose import say
from gru_unlearn.results.run_summary import GroupConflict
from gru_unlearn.runs.run_models import load_as_set, make_trainer
from gru_unlearn.runs.run_preparation import Prepared
from gru_unlearn.runs.training_progress import StepBar
from gru_unlearn.runs.tru_preparation import PreparedTru
from gru_unlearn.task_vectors import measure_conflicts, save_task_vector

TASKS, VECTORS = "tasks", "vectors"
SHARD_SIZE = "2GB"
"""Task models are saved in shards of at most this, which bounds the memory of the algebra on them."""


class TaskFolders(NamedTuple):
    """Where the target is, and the models tuned on each group, on all that is outside each group, and on all rows."""

    target: Path
    groups: list[Path]
    rests: list[Path]
    whole: Path


def task_folders(prepared: PreparedTru) -> TaskFolders:
    """The folders of a run's target and task models."""
    tasks, numbers = prepared.run.output / TASKS, range(1, len(prepared.groups) + 1)
    groups = [tasks / f"group-{n}" for n in numbers]
    # Of two groups, each is all that is outside the other.
    rests = groups[::-1] if len(groups) == 2 else [tasks / f"rest-{n}" for n in numbers]
    return TaskFolders(tasks / "target", groups, rests, tasks / "all")


def make_vectors(prepared: PreparedTru, console: Console, *, keep: bool = False) -> list[GroupConflict]:
    """Make what the run's folder lacks of task models, ``vectors/tru`` and ``vectors/negated``; ``keep`` the models.

    Returns how each group's task vector stands to that of the others.

    Raises:
        NonFiniteError: a fine-tuning became NaN or infinite.
        UserError: a fine-tuning changed nothing.
    """
    tasks, file = prepared.run.output / TASKS, prepared.run.output / VECTORS / "conflicts.json"
    if not file.is_file():  # it is written last
        tune_task_models(prepared, console)
        console.print(f"Task vectors of {len(prepared.groups)} groups ...")
        write_json(file, [conflict.to_json() for conflict in _write_vectors(prepared, file.parent)])
    if not keep and tasks.is_dir():
        for folder in tasks.iterdir():
            if folder.name != "target":
                shutil.rmtree(folder)
    return [GroupConflict.model_validate(conflict) for conflict in read_json(file)]


def _write_vectors(prepared: PreparedTru, vectors: Path) -> list[GroupConflict]:
    target, groups, rests, whole = task_folders(prepared)
    shutil.rmtree(vectors, ignore_errors=True)
    conflicts = measure_conflicts(target, groups, rests)
    if not all(conflict.group_norm and conflict.rest_norm for conflict in conflicts):
        raise UserError(
            "a fine-tuning moved no weight: raise --learning-rate or --num-train-epochs, or lower --warmup-steps"
        )
    save_task_vector(target, groups, rests, vectors / "tru", granularity=prepared.options.granularity)
    save_task_vector(target, [whole], [], vectors / "negated", rectified=False)
    pairs = zip(prepared.groups, conflicts, strict=True)
    return [GroupConflict(rows=len(rows), cosine=found.cosine, **asdict(found)) for rows, found in pairs]


def tune_task_models(prepared: PreparedTru, console: Console) -> None:
    """The target, saved anew, and the 2G + 1 models tuned from it (3 for two groups).

    The target is loaded and saved once because hub files may name or tie their tensors in another way than the saved
    task models do.

    Raises:
        NonFiniteError: loss or gradients of a fine-tuning became NaN or infinite.
    """
    run, folders = prepared.run, task_folders(prepared)
    if not folders.target.is_dir():
        _save(load_as_set(run, run.model.folder), run, folders.target)
    jobs = _rows_by_folder(prepared)
    missing = {folder: rows for folder, rows in jobs.items() if not folder.is_dir()}
    there = len(jobs) - len(missing)
    if there:
        console.print(f"{there} of {len(jobs)} task models are there already.")
    for number, (folder, rows) in enumerate(missing.items(), start=there + 1):
        _fine_tune(run, rows, folder, console, f"task model {number} of {len(jobs)}, {folder.name}")


def _rows_by_folder(prepared: PreparedTru) -> dict[Path, list[Example]]:
    """Each task model's rows; of two groups, that of one is the rest of the other, and stands there once."""
    folders, groups = task_folders(prepared), prepared.groups
    jobs = {folders.whole: list(chain.from_iterable(groups))}
    for number, group in enumerate(groups):
        others = groups[:number] + groups[number + 1 :]
        jobs[folders.groups[number]] = group
        jobs[folders.rests[number]] = list(chain.from_iterable(others))
    return jobs


def _fine_tune(run: Prepared, rows: list[Example], folder: Path, console: Console, title: str) -> None:
    """Tune the target on −log p of the rows' answers; adapters are merged."""
    set_seed(run.recipe.config.seed)
    started = time.perf_counter()
    progress = StepBar(console, title)
    trainer = make_trainer(run, rows, [progress], objective=nll)
    with closing(progress):
        result = trainer.train()
    model: Any = trainer.model
    if run.recipe.use_peft:
        model = model.float().merge_and_unload()  # in bfloat16 the sum would round most of the change away
    _save(model, run, folder)
    loss, seconds = result.training_loss, time.perf_counter() - started
    say(console, f"{title}: {result.global_step} steps, mean loss {loss:.4f}, {seconds:.1f} s")
    del trainer, model
    free_memory()


def _save(model: Any, run: Prepared, folder: Path) -> None:
    with whole_folder(folder) as part:
        model.save_pretrained(part, max_shard_size=SHARD_SIZE)
        run.model.encoder.tokenizer.save_pretrained(part)
