"""``gru evaluate``: all metrics of a suite, for one model."""

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    model: Annotated[str | None, typer.Option(help="Model folder, hub id, or builtin:target.")] = None,
    suite: Annotated[str, typer.Option(help="tofu, muse, builtin, or own (your rows).")] = "builtin",
    data: Annotated[str | None, typer.Option(help="Folder with the suite's files, or a hub data set.")] = None,
    forget_split: Annotated[str, typer.Option(help="TOFU's forget01, forget05 or forget10.")] = "forget10",
    holdout_split: Annotated[str | None, typer.Option(help="Rows no model saw, for membership inference.")] = None,
    forget: Annotated[str | None, typer.Option(help="For --suite own: the rows to forget.")] = None,
    retain: Annotated[str | None, typer.Option(help="For --suite own: rows that must stay.")] = None,
    retain_model: Annotated[str | None, typer.Option(help="Model that never saw the forget set.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("runs/evaluate"),
    batch_size: Annotated[int, typer.Option(help="Answers per forward pass; changes no result.")] = 32,
    max_length: Annotated[int, typer.Option(help="Most tokens of a prompt with its answer.")] = 512,
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run a model's own code.")] = False,
    overwrite_output_dir: Annotated[
        bool, typer.Option("--overwrite-output-dir", help="Discard the evaluation in the output folder.")
    ] = False,
    explain: Annotated[str | None, typer.Option(help="Explain a metric, or 'all', and stop.")] = None,
) -> None:
    """Measure a model: how much is forgotten, how much is kept."""
    from rich.console import Console  # noqa: PLC0415 - heavy imports wait for a command

    from gru_unlearn.errors import UserError  # noqa: PLC0415
    from gru_unlearn.reporting import evaluation_table, explanation  # noqa: PLC0415
    from gru_unlearn.workflows.evaluate import EvaluationRequest, evaluate_model, metrics_by_key  # noqa: PLC0415
    from gru_unlearn.workflows.models import quiet  # noqa: PLC0415

    console = Console()
    if explain:
        console.print(explanation(metrics_by_key(), explain), markup=False, highlight=False)
        return
    if not model:
        raise UserError("no model given: pass --model")
    quiet()
    request = EvaluationRequest(
        model=model,
        suite=suite,
        data=data,
        forget_split=forget_split,
        holdout_split=holdout_split,
        forget=forget,
        retain=retain,
        retain_model=retain_model,
        batch_size=batch_size,
        max_length=max_length,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
    )
    summary = evaluate_model(request, out, console, overwrite=overwrite_output_dir)
    console.print(evaluation_table(summary))
    console.print(
        f"Results: {out}/summary.json · per row: {out}/rows.json · scores: {out}/scores.parquet", soft_wrap=True
    )
