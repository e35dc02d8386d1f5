"""``gru finetune``: a target, a retain model, or any fine-tuned model from a base and rows."""

from dataclasses import dataclass

from rich.console import Console

from gru_unlearn.cli.flags import command, show_results
from gru_unlearn.cli.settings_flags import GivenSettings, SettingsCommand
from gru_unlearn.common.options import option
from gru_unlearn.reporting.prose import say
from gru_unlearn.tuning.no_meaning import check_meaning
from gru_unlearn.tuning.tuning_options import TuningOptions


@dataclass(frozen=True)
class TuningFeatured:
    """Settings that most fine-tunings need."""

    model: str | None = option("Base: a model folder, hub id, or builtin:retain.", None)
    held_out: str | None = option("Rows that are never trained on, only to measure.", None)
    learning_rate: str | None = option("Peak learning rate; default: by the model's size.", None)
    num_train_epochs: str | None = option("Passes over the rows.", None)
    per_device_train_batch_size: str | None = option("Rows per backward pass.", None)
    gradient_accumulation_steps: str | None = option("Backward passes per step.", None)
    use_peft: bool = option("Train LoRA adapters instead of all weights.", False)
    seed: str | None = option("Seed of everything random.", None)
    output_dir: str | None = option("Folder of the run.", None)


@dataclass(frozen=True)
class TuningFiles:
    """What is no setting of a run."""

    dry_run: bool = option("Check everything, print the plan, write nothing.", False)
    overwrite_output_dir: bool = option("Discard the run in the output folder.", False)


@command(
    TuningOptions,
    TuningFiles,
    kind=SettingsCommand,
    featured=TuningFeatured,
    needed=("model", "train"),
    in_recipe=TuningOptions,
    check_meaning=check_meaning,
)
def finetune(options: TuningOptions, files: TuningFiles, given: GivenSettings, console: Console) -> None:
    """Teach a model rows, to unlearn them later: gru finetune [RECIPE.yaml] --model BASE --train ROWS [FLAGS].

    With --without FORGET the same command makes the retain model, which never saw those rows. Settings of gru unlearn
    work too (gru unlearn --list-settings).
    """
    from gru_unlearn.runs.rehearsal import rehearse  # noqa: PLC0415 - heavy imports wait for a command
    from gru_unlearn.runs.run_precision import describe_precision  # noqa: PLC0415
    from gru_unlearn.tuning.tuning_job import finetune as run  # noqa: PLC0415
    from gru_unlearn.tuning.tuning_preparation import prepare_tuning  # noqa: PLC0415
    from gru_unlearn.tuning.tuning_tables import (  # noqa: PLC0415
        conclusion,
        describe_tuning,
        next_command,
        tuning_table,
    )

    prepared = prepare_tuning(
        given.merged(), options, overwrite=files.overwrite_output_dir, on_any_machine=files.dry_run
    )
    if files.dry_run:
        left_out = rehearse(prepared.run)
        for name, value in [*describe_tuning(prepared), ("precision", describe_precision(prepared.run))]:
            say(console, f"{name:>12}  {value}")
        say(console, f"Dry run: everything checked{left_out}, nothing written.")
        return
    summary = run(prepared, console)
    console.print(tuning_table(summary))
    say(console, conclusion(prepared, summary))
    show_results(console, prepared.run.output, model="model")
    console.print(next_command(prepared), soft_wrap=True, highlight=False)  # to be copied
