"""``gru attack``: does what an unlearned model has forgotten come back?"""

from pathlib import Path
from typing import Annotated

import typer


def attack(
    run: Annotated[Path | None, typer.Argument(help="Folder of a run: says all that flags do not.")] = None,
    model: Annotated[str | None, typer.Option(help="The unlearned model: folder or hub id.")] = None,
    target: Annotated[str | None, typer.Option(help="The model as it was before, likewise.")] = None,
    retain_model: Annotated[
        str | None, typer.Option(help="Model that never saw the forget set: the zero line.")
    ] = None,
    forget: Annotated[str | None, typer.Option(help="File, FOLDER:NAME, hub data set, or builtin:forget.")] = None,
    retain: Annotated[str | None, typer.Option(help="What the model should still know; likewise.")] = None,
    held_out: Annotated[str | None, typer.Option(help="More such rows.")] = None,
    holdout: Annotated[str | None, typer.Option(help="Rows no model saw, for membership inference.")] = None,
    unrelated: Annotated[str, typer.Option(help="Rows to relearn from that have nothing to do with it.")] = (
        "builtin:general"
    ),
    attacks: Annotated[str, typer.Option(help="Which ones, comma-separated.")] = (
        "relearning,quantization,sampling,prompts,membership"
    ),
    prefixes: Annotated[Path | None, typer.Option(help="File of prefixes for questions, one a line.")] = None,
    samples: Annotated[int, typer.Option(help="Sampled answers a question.")] = 8,
    temperature: Annotated[float, typer.Option(help="Of sampling.")] = 1.0,
    relearning_steps: Annotated[int, typer.Option(help="Optimizer steps of relearning, eight rows each.")] = 60,
    relearning_learning_rate: Annotated[
        float | None, typer.Option(help="Its learning rate.", show_default="the run's, else 1e-5")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Answers per forward pass; changes rounding alone.")] = 32,
    max_rows: Annotated[int, typer.Option(help="Most forget rows; more are sampled.")] = 100,
    max_length: Annotated[
        int | None, typer.Option(help="Most tokens of a prompt with its answer.", show_default="the run's, else 512")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32, bfloat16.", show_default="the run's")] = None,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run a model's own code.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of the results.", show_default="RUN/attack")] = None,
    overwrite_output_dir: Annotated[
        bool, typer.Option("--overwrite-output-dir", help="Discard the attack in the output folder.")
    ] = False,
) -> None:
    """Try to bring back what was forgotten: gru attack RUN.

    Relearning, quantization, sampling, other prompts and membership inference, on the unlearned model, the target and
    the retain model alike. An interrupted command goes on where it stopped.
    """
    from rich.console import Console  # noqa: PLC0415 - heavy imports wait for a command

    from gru_unlearn.attacks import AttackRequest, prepare_attack, run_attacks  # noqa: PLC0415
    from gru_unlearn.attacks.attack_tables import attack_table, verdict  # noqa: PLC0415
    from gru_unlearn.models.loading import quiet  # noqa: PLC0415
    from gru_unlearn.publishing.reports import report_beside  # noqa: PLC0415
    from gru_unlearn.results.run_folder import RunFolder  # noqa: PLC0415

    quiet()
    console = Console(markup=False)  # paths may hold brackets
    request = AttackRequest(
        run=run,
        model=model,
        target=target,
        retain_model=retain_model,
        forget=forget,
        retain=retain,
        held_out=held_out,
        holdout=holdout,
        unrelated=unrelated,
        attacks=tuple(dict.fromkeys(filter(None, (name.strip() for name in attacks.split(","))))),
        prefixes=prefixes,
        samples=samples,
        temperature=temperature,
        relearning_steps=relearning_steps,
        relearning_learning_rate=relearning_learning_rate,
        batch_size=batch_size,
        max_rows=max_rows,
        max_length=max_length,
        dtype=dtype,
        trust_remote_code=trust_remote_code or None,
        seed=seed,
    )
    own = RunFolder(run).attack.path if run else Path("runs/attack")
    out = out or own
    summary = run_attacks(prepare_attack(request, out, overwrite=overwrite_output_dir), console)
    console.print(attack_table(summary))
    console.print(verdict(summary), highlight=False)
    of_run = run and not model and out == own and RunFolder(run).report_file.is_file()
    report = report_beside(run if run and of_run else out, console)  # a run's own report shows the attacks on it
    console.print(f"Results: {out}/summary.json · per row: {out}/rows.json{report}", soft_wrap=True)
