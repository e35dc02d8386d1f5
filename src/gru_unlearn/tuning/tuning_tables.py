"""A fine-tuning for people: what it will do, what came of it, and what it is good for next."""

import shlex

from rich.table import Table

from gru_unlearn.data import describe_rows
from gru_unlearn.reporting.tables import make_table
from gru_unlearn.results.tuning_summary import TuningSummary
from gru_unlearn.training.run_length import steps_an_epoch
from gru_unlearn.tuning.tuning_preparation import PreparedTuning

NAMES = {"train": "training", "without": "left out", "held_out": "held-out"}
"""Set → what its rows are called."""

KNOWN = 0.8
"""Mean answer probability from which on rows count as memorised; the shared models of the field lie above 0.9."""


def describe_training(prepared: PreparedTuning) -> str:
    """In a line: ``600 rows, 6 epochs of 38 steps, 16 rows a step, all 134.5 M weights, learning rate 3e-4``."""
    recipe, config = prepared.run.recipe, prepared.run.recipe.config
    rows = len(prepared.run.examples["train"])
    at_once = config.per_device_train_batch_size * config.gradient_accumulation_steps * config.world_size
    length = f"{config.num_train_epochs:g} epochs of {steps_an_epoch(config, rows, config.world_size)} steps"
    if config.max_steps > 0:
        length = f"{config.max_steps} steps"
    trained = f"all {prepared.parameters / 1e6:.1f} M weights"
    if recipe.use_peft:
        trained = f"LoRA adapters of rank {recipe.lora_r} on {prepared.parameters / 1e6:.1f} M weights"
    return f"{rows} rows, {length}, {at_once} rows a step, {trained}, learning rate {config.learning_rate:g}"


def describe_tuning(prepared: PreparedTuning) -> list[tuple[str, object]]:
    """What a fine-tuning would do, line by line, for ``--dry-run``."""
    rows = []
    for name, its in prepared.rows.items():
        rows.append((NAMES[name], f"{its.source} ({describe_rows(its.records)})"))
    output = str(prepared.run.output)
    if prepared.run.claim.resume:
        output += " (continues the interrupted run)"
    lines: list[tuple[str, object]] = [("model", prepared.run.recipe.model), *rows]
    if left_out := prepared.rows["train"].left_out:
        lines.append(("not learnt", f"{left_out} rows of --train, which stand in --without"))
    return [*lines, ("training", describe_training(prepared)), ("output", output)]


def tuning_table(summary: TuningSummary) -> Table:
    """Each set's mean answer probability before and after, and which share is said word for word."""
    start, results = summary.start, summary.results
    rows = []
    for name, label in NAMES.items():
        after = results.get(f"{name}_prob")
        if after is not None:
            before = start and start.get(f"{name}_prob")
            share = results.get(f"{name}_word_for_word")
            said = "" if share is None else f"{share:.0%}"
            rows.append((f"{label} probability", before, after, said))
    title = f"fine-tuning · {summary.steps} steps · {summary.epochs:.1f} epochs"
    return make_table(title, ("", "before", "after", "word for word"), rows)


def conclusion(prepared: PreparedTuning, summary: TuningSummary) -> str:
    """What came of it, in a sentence or two."""
    rows, found = len(prepared.run.sets["train"]), summary.results.train_prob
    said = f"The model knows its {rows} rows: mean answer probability {found:.3f}"
    if found < KNOWN:
        said = (
            f"The {rows} rows are not memorised yet: mean answer probability {found:.3f}, where {KNOWN:g} and more is "
            "usual; raise --num-train-epochs or --learning-rate"
        )
    if summary.results.without_prob is None:
        return f"{said}."
    count = len(prepared.run.sets["without"])
    return f"{said}. Of the {count} rows left out it gives {summary.results.without_prob:.3f}, never having seen them."


def next_command(prepared: PreparedTuning) -> str:
    """What to do with the model: the other one of the pair, or to unlearn."""
    model = shlex.quote(str(prepared.run.claim.folder.model))
    without = prepared.rows.get("without")
    if without is None:
        return (
            f"Next: its retain model, by this command with --without FORGET and another --output-dir; then "
            f"gru unlearn --model {model} --forget FORGET --retain RETAIN --retain-model OTHER"
        )
    forget = shlex.quote(without.source)
    return f"Next: gru unlearn --model TARGET --forget {forget} --retain RETAIN --retain-model {model}"
