"""``gru evaluate``: all metrics of a suite, for one model; or finished evaluations side by side."""

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console


def evaluate(
    runs: Annotated[list[Path] | None, typer.Argument(help="Only with --curve: folders of evaluations.")] = None,
    model: Annotated[str | None, typer.Option(help="Model folder, hub id, or builtin:target.")] = None,
    suite: Annotated[str, typer.Option(help="tofu, muse, builtin, own (your rows), wmdp or mmlu.")] = "builtin",
    data: Annotated[str | None, typer.Option(help="Folder with the suite's files, or a hub data set.")] = None,
    forget_split: Annotated[str, typer.Option(help="TOFU's forget01, forget05 or forget10.")] = "forget10",
    holdout_split: Annotated[str | None, typer.Option(help="For TOFU: rows no model saw, to attack with.")] = None,
    forget: Annotated[str | None, typer.Option(help="For --suite own: the rows to forget.")] = None,
    retain: Annotated[str | None, typer.Option(help="For --suite own: rows that must stay.")] = None,
    holdout: Annotated[str | None, typer.Option(help="For --suite own: rows no model saw, to attack with.")] = None,
    retain_model: Annotated[str | None, typer.Option(help="Model that never saw the forget set.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results.", show_default="runs/evaluate")] = None,
    batch_size: Annotated[int, typer.Option(help="Answers per forward pass; changes no result.")] = 32,
    max_length: Annotated[int, typer.Option(help="Most tokens of a prompt with its answer.")] = 512,
    limit: Annotated[int | None, typer.Option(help="For wmdp and mmlu: only so many questions a task.")] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run a model's own code.")] = False,
    overwrite_output_dir: Annotated[
        bool, typer.Option("--overwrite-output-dir", help="Discard the evaluation in the output folder.")
    ] = False,
    no_reuse: Annotated[bool, typer.Option("--no-reuse", help="Take no scores from the cache.")] = False,
    curve: Annotated[bool, typer.Option("--curve", help="Put finished evaluations side by side, and stop.")] = False,
    explain: Annotated[str | None, typer.Option(help="Explain a metric, or 'all', and stop.")] = None,
) -> None:
    """Measure a model: how much is forgotten, how much is kept."""
    gc.set_threshold(100_000)  # imports make millions of objects and no garbage: looking less often saves a fifth
    from rich.console import Console  # noqa: PLC0415 - heavy imports wait for a command

    from gru_unlearn.errors import UserError  # noqa: PLC0415

    console = Console(markup=False)  # paths may hold brackets
    if curve:
        _curve(console, runs or [], out or Path("runs/curve"), overwrite_output_dir)
        return
    if runs:
        raise UserError(f"{runs[0]}: folders of evaluations go with --curve; a model goes with --model")
    if explain:
        _explain(console, explain)
        return
    if not model:
        raise UserError("no model given: pass --model")
    from gru_unlearn.benchmark.evaluate_job import evaluate_model, prepare_evaluation  # noqa: PLC0415
    from gru_unlearn.benchmark.evaluation_request import EvaluationRequest  # noqa: PLC0415
    from gru_unlearn.benchmark.evaluation_tables import evaluation_table  # noqa: PLC0415
    from gru_unlearn.models.loading import quiet  # noqa: PLC0415
    from gru_unlearn.publishing.reports import report_beside  # noqa: PLC0415

    quiet()
    request = EvaluationRequest(
        model=model,
        suite=suite,
        data=data,
        forget_split=forget_split,
        holdout_split=holdout_split,
        forget=forget,
        retain=retain,
        holdout=holdout,
        retain_model=retain_model,
        batch_size=batch_size,
        max_length=max_length,
        limit=limit,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
    )
    out = out or Path("runs/evaluate")
    prepared = prepare_evaluation(request, out, overwrite=overwrite_output_dir)
    summary = evaluate_model(prepared, console, reuse=not no_reuse)
    console.print(evaluation_table(summary))
    files = {"Results": "summary.json", "per row": "rows.json", "scores": "scores.parquet"}
    written = (f"{what}: {out}/{file}" for what, file in files.items() if (out / file).is_file())
    console.print(" · ".join(written) + report_beside(out, console), soft_wrap=True)


def _explain(console: "Console", key: str) -> None:
    from gru_unlearn.benchmark.metric_index import explain_metric  # noqa: PLC0415

    console.print(explain_metric(key), markup=False, highlight=False)


def _curve(console: "Console", runs: list[Path], out: Path, overwrite: bool) -> None:
    from gru_unlearn.benchmark.curve_job import evaluation_curve  # noqa: PLC0415
    from gru_unlearn.benchmark.evaluation_tables import curve_table  # noqa: PLC0415

    console.print(curve_table(evaluation_curve(runs, out, overwrite=overwrite)))
    console.print(f"Results: {out}/summary.json", soft_wrap=True)
