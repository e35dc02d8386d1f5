"""One unlearning run: train, measure along the way, save the model and a summary."""

import shutil
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import nn
from transformers import TrainerCallback, set_seed

from gru_unlearn.common.files import finish, link_folder, unfinished
from gru_unlearn.common.processes import is_first, wait_for_all
from gru_unlearn.data import Encoder
from gru_unlearn.evaluation import ScoreTable, evaluate, score
from gru_unlearn.models.loading import free_memory
from gru_unlearn.models.weights import hash_weights
from gru_unlearn.reporting.measured import verdict_of_folder
from gru_unlearn.reporting.progress import stages
from gru_unlearn.reporting.prose import say
from gru_unlearn.results.mark import Mark
from gru_unlearn.results.run_summary import BestModel, RunSummary
from gru_unlearn.runs.best_choice import best_keeper
from gru_unlearn.runs.example_log import ExampleLog
from gru_unlearn.runs.footing import footing_line
from gru_unlearn.runs.keep_best import BEST_FOLDER
from gru_unlearn.runs.manner_file import MannerInCheckpoints, write_manner
from gru_unlearn.runs.marks import ask_base_model, mark_line, mark_of_retain_model, other_mark
from gru_unlearn.runs.own_choice import CHECKPOINTS, left_to_run
from gru_unlearn.runs.retain_rows import write_found_rows
from gru_unlearn.runs.run_aim import aim_line, set_aim
from gru_unlearn.runs.run_models import load_on_device, make_trainer
from gru_unlearn.runs.run_precision import head_line
from gru_unlearn.runs.run_preparation import Prepared, check_machine
from gru_unlearn.runs.run_results import points_along, summarize
from gru_unlearn.runs.to_the_end import train_to_the_end
from gru_unlearn.runs.training_progress import TrainingProgress
from gru_unlearn.training import UnlearningTrainer, drop_checkpoints
from gru_unlearn.training.pair_trainer import Evaluator


def unlearn(prepared: Prepared, console: Console) -> RunSummary:
    """Run to the end and return the summary; it also stands in ``summary.json`` beside the model.

    A run that was interrupted goes on from its last whole checkpoint.

    Raises:
        Interrupted: Ctrl-C; the last step is in a checkpoint.
        NonFiniteError: loss, gradients or weights became NaN or infinite; earlier checkpoints stay.
        UserError: another process holds the folder.
    """
    check_machine(prepared.recipe)
    with prepared.claim.held() as folder:
        started = time.perf_counter()
        set_seed(prepared.recipe.config.seed)
        for line in filter(None, (head_line(prepared), footing_line(prepared.recipe))):
            say(console, line)
        if is_first():
            write_found_rows(prepared.run_rows, folder)
        examples = ExampleLog(prepared)
        retain = _ask_retain_model(prepared, examples)
        set_aim(prepared.recipe, retain.mark)
        for line in filter(None, (mark_line(retain.mark), aim_line(prepared.recipe))):
            say(console, line)
        trainer, best = _train(prepared, retain, examples, console)
        if best is None:
            _save_model(prepared, trainer, unfinished(folder.model))
        with stages(console, "examples") as on_progress:
            examples.see("after", _saved_model(prepared, trainer, best), on_progress)
        examples.write()
        summary = summarize(prepared, trainer, retain.mark, best, time.perf_counter() - started)
        if is_first():
            summary.verdict = verdict_of_folder(folder, summary, None)
            _put_in_place(prepared, summary)
    return summary


@dataclass(frozen=True, slots=True)
class RetainModelSays:
    """What the retain model says, which never saw the forget set, or whatever stands in for it."""

    mark: Mark | None = None
    """how much forgetting is enough: over as many answers as are evaluated along the run"""
    table: ScoreTable | None = None
    """the retain model's scores, where the run measures a suite"""

    @property
    def forget_target(self) -> float | None:
        """f*, the mark's value."""
        return None if self.mark is None else self.mark.value


def _ask_retain_model(prepared: Prepared, examples: ExampleLog) -> RetainModelSays:
    """Load the retain model if there is one, ask it everything at once, and drop it again; else find another mark."""
    if prepared.retain_model is None:
        return RetainModelSays(other_mark(prepared))
    ask_base_model(prepared)
    model = load_on_device(prepared, prepared.retain_model.folder)
    mark = mark_of_retain_model(prepared, prepared.retain_model, model)
    table = None
    if prepared.suite is not None:
        size = prepared.recipe.config.per_device_eval_batch_size
        table = score(model, prepared.model.encoder, prepared.suite, retain_model=True, batch_size=size)
    examples.see("retain_model", model)
    del model
    free_memory()
    return RetainModelSays(mark, table)


def _saved_model(prepared: Prepared, trainer: UnlearningTrainer, best: BestModel | None) -> Any:
    """The model that the run's folder will hold: the best one where there is one, else the last."""
    if best is None or best.step == trainer.state.global_step:
        return trainer.model
    wait_for_all()
    return load_on_device(prepared, prepared.output / BEST_FOLDER)


def _save_model(prepared: Prepared, trainer: UnlearningTrainer, folder: Path) -> None:
    """The model as it stands, and beside it how it was asked."""
    trainer.save_model(str(folder))
    if is_first():
        write_manner(prepared, folder)


def _put_in_place(prepared: Prepared, summary: RunSummary) -> None:
    """The model, then the summary, which marks the run as finished."""
    folder = prepared.claim.folder
    best = folder.path / BEST_FOLDER
    if summary.best is not None:
        part = unfinished(folder.model)
        link_folder(best, part)
        write_manner(prepared, part)
    finish(folder.model)
    summary.saved_sha256 = hash_weights(folder.model)
    folder.finish(summary)
    shutil.rmtree(best, ignore_errors=True)
    if all(left_to_run(prepared.recipe, name) for name in CHECKPOINTS):
        drop_checkpoints(folder.path)


def _train(
    prepared: Prepared, retain: RetainModelSays, examples: ExampleLog, console: Console
) -> tuple[UnlearningTrainer, BestModel | None]:
    """To the end, from the last whole checkpoint if there is one; and the best model on the way, where it is wanted."""
    config = prepared.recipe.config
    progress = TrainingProgress(console, f"{config.objective} · {config.rectification}")
    trainer = _make_trainer(prepared, retain, [progress])
    if is_first():
        trainer.say = partial(say, console)
    keep_best = best_keeper(prepared, retain.forget_target, trainer.save_model)
    if keep_best is not None:
        trainer.add_callback(keep_best)
    trainer.add_callback(examples)
    trainer.add_callback(MannerInCheckpoints(prepared))

    train_to_the_end(prepared, trainer, progress, console)
    step = trainer.state.global_step
    if step not in [point.step for point in points_along(trainer.state.log_history)]:
        trainer.evaluate()  # the results are those of the model that is saved, whatever the evaluation schedule
    if keep_best is None:
        return trainer, None
    if keep_best.best is None:
        console.print(f"No evaluation met {keep_best}: the last model is saved.")
    return trainer, keep_best.best


def _make_trainer(prepared: Prepared, retain: RetainModelSays, callbacks: list[TrainerCallback]) -> UnlearningTrainer:
    examples = prepared.examples
    return make_trainer(
        prepared,
        examples["forget"],
        callbacks,
        retain_dataset=examples.get("retain"),
        eval_dataset={name: rows for name, rows in examples.items() if name == "held_out"},
        evaluator=_evaluator(prepared, retain),
    )


def _evaluator(prepared: Prepared, retain: RetainModelSays) -> Evaluator | None:
    """Measures the run's suite on the model as it stands; metrics without a value are left out."""
    suite, batch_size = prepared.suite, prepared.recipe.config.per_device_eval_batch_size
    if suite is None:
        return None

    def metrics_of(model: nn.Module, encoder: Encoder) -> dict[str, float]:
        evaluation = evaluate(model, encoder, suite, retain_table=retain.table, batch_size=batch_size)
        return {name: value for name, value in evaluation.metrics.items() if value is not None}

    return metrics_of
