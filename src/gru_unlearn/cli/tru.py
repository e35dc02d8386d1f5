"""``gru tru``: unlearn by rectified task vectors, without retain data."""

from dataclasses import dataclass

from rich.console import Console

from gru_unlearn.cli.flags import command, show_results, show_verdict
from gru_unlearn.cli.settings_flags import GivenSettings, SettingsCommand
from gru_unlearn.common.options import option
from gru_unlearn.reporting.prose import say
from gru_unlearn.runs.tru_options import TruOptions


@dataclass(frozen=True)
class TruFeatured:
    """Settings that most runs need."""

    model: str | None = option("Model folder, .gguf file, hub id, pretrained:smollm2-135m, or builtin:target.", None)
    forget: str | None = option("File, FOLDER:NAME, hub data set, or builtin:forget.", None)
    retain: str | None = option("Rows that should stay, only to measure.", None)
    held_out: str | None = option("More such rows, only to measure.", None)
    retain_model: str | None = option("Model that never saw the forget set.", None)
    learning_rate: str | None = option("Peak learning rate of the fine-tunings.", None)
    num_train_epochs: str | None = option("Passes over each group's rows.", None)
    use_peft: bool = option("Fine-tune LoRA adapters, then merge.", False)
    seed: str | None = option("Seed of everything random.", None)
    output_dir: str | None = option("Folder of the run.", None, flags=("--out", "--output-dir"))


@dataclass(frozen=True)
class TruFiles:
    """What is left in the folder of the run, and what was there."""

    keep: bool = option("Leave task models and task vectors there.", False)
    overwrite_output_dir: bool = option("Discard the run in the output folder.", False)


@command(TruOptions, TruFiles, kind=SettingsCommand, featured=TruFeatured, needed=("model", "forget"))
def tru(options: TruOptions, files: TruFiles, given: GivenSettings, console: Console) -> None:
    """Forget without retain data, by rectified task vectors: gru tru [RECIPE.yaml] [FLAGS].

    Splits the forget rows in groups, fine-tunes the model on each and on all others, and subtracts what each group
    does not share with the others. Settings of gru unlearn work too (gru unlearn --list-settings).
    """
    from gru_unlearn.runs.run_tables import short_line, tru_table  # noqa: PLC0415 - heavy imports wait for a command
    from gru_unlearn.runs.tru_job import tru as run  # noqa: PLC0415
    from gru_unlearn.runs.tru_preparation import prepare_tru  # noqa: PLC0415

    prepared = prepare_tru(given.merged(), options, overwrite=files.overwrite_output_dir)
    summary = run(prepared, console, keep=files.keep)
    console.print(tru_table(summary))
    show_verdict(console, summary.verdict)
    if (advice := short_line(summary)) is not None:
        say(console, advice)
    show_results(console, prepared.run.output, model="model", report_of=prepared.run.output)
