"""One fine-tuning: learn, measure along the way, save the model and a summary."""

import shutil
import time
from pathlib import Path

from rich.console import Console
from transformers import TrainerCallback, set_seed

from gru_unlearn.common.files import finish, unfinished
from gru_unlearn.common.processes import is_first
from gru_unlearn.reporting.prose import say
from gru_unlearn.results.tuning_summary import TuningSummary
from gru_unlearn.runs.manner_file import MannerInCheckpoints, write_manner
from gru_unlearn.runs.run_models import show_elsewhere, silence, trainable_model
from gru_unlearn.runs.run_precision import head_line
from gru_unlearn.runs.run_preparation import check_machine
from gru_unlearn.runs.to_the_end import train_to_the_end
from gru_unlearn.training import TuningTrainer, drop_checkpoints
from gru_unlearn.tuning.learning import LearningProgress, StopWhenLearnt
from gru_unlearn.tuning.tuning_preparation import PreparedTuning
from gru_unlearn.tuning.tuning_results import points_along, summarize
from gru_unlearn.tuning.tuning_tables import describe_training


def finetune(prepared: PreparedTuning, console: Console) -> TuningSummary:
    """Run to the end and return the summary; it also stands in ``summary.json`` beside the model.

    A run that was interrupted goes on from its last whole checkpoint.

    Raises:
        Interrupted: Ctrl-C; the last step is in a checkpoint.
        NonFiniteError: loss, gradients or weights became NaN or infinite; earlier checkpoints stay.
        UserError: another process holds the folder, or the base knows the rows already.
    """
    run = prepared.run
    check_machine(run.recipe)
    with run.claim.held() as folder:
        started = time.perf_counter()
        set_seed(run.recipe.config.seed)
        for line in filter(None, (head_line(run), f"Training: {describe_training(prepared)}.")):
            say(console, line)
        trainer = _train(prepared, console)
        part = unfinished(folder.model)
        trainer.save_model(str(part))
        summary = summarize(prepared, trainer, time.perf_counter() - started)
        if prepared.options.merge:
            _save_merged(trainer, part)
        if is_first():
            write_manner(run, part)
            finish(folder.model)
            folder.finish(summary)
            if not prepared.keeps_checkpoints:
                drop_checkpoints(run.output)
    return summary


def _train(prepared: PreparedTuning, console: Console) -> TuningTrainer:
    run = prepared.run
    progress = LearningProgress(console, "fine-tuning")
    trainer = _make_trainer(prepared, [progress, MannerInCheckpoints(run)])
    if prepared.options.stop_at_prob is not None:
        trainer.add_callback(StopWhenLearnt(prepared.options.stop_at_prob))
    train_to_the_end(run, trainer, progress, console)
    if trainer.state.global_step not in [point.step for point in points_along(trainer.state.log_history)]:
        trainer.evaluate()  # the results are those of the model that is saved, whatever the evaluation schedule
    return trainer


def _make_trainer(prepared: PreparedTuning, callbacks: list[TrainerCallback]) -> TuningTrainer:
    run, config = prepared.run, prepared.run.recipe.config
    show_elsewhere(config)
    further = {name: examples for name, examples in run.examples.items() if name != "train"}
    trainer = TuningTrainer(
        trainable_model(run),
        config,
        train_dataset=run.examples["train"],
        eval_dataset=further,
        processing_class=run.model.encoder.tokenizer,
        callbacks=callbacks,
    )
    silence(trainer)
    return trainer


def _save_merged(trainer: TuningTrainer, folder: Path) -> None:
    """Whole weights in place of the adapters in a folder."""
    shutil.rmtree(folder)
    merged = trainer.model.float().merge_and_unload()  # in bfloat16 the sum would round most of the change away
    merged.save_pretrained(folder)
    trainer.encoder.tokenizer.save_pretrained(folder)
