"""``gru evaluate``: all metrics of a suite, for one model; or finished evaluations side by side."""

import gc
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from gru_unlearn.benchmark.evaluation_request import EvaluationRequest
from gru_unlearn.cli.flags import command, show_results, show_verdict
from gru_unlearn.common.options import option
from gru_unlearn.errors import UserError


@dataclass(frozen=True)
class EvaluateOptions:
    """What becomes of an evaluation, and what else the command can do."""

    runs: tuple[Path, ...] = option("Only with --curve: folders of evaluations.", (), argument=True)
    out: Path | None = option("Folder of the results.", None, shown="runs/evaluate")
    overwrite_output_dir: bool = option("Discard the evaluation in the output folder.", False)
    no_reuse: bool = option("Take no scores from the cache.", False)
    curve: bool = option("Put finished evaluations side by side, and stop.", False, shows=True)
    explain: str | None = option("Explain a metric, by any name it has here, or 'all', and stop.", None, shows=True)

    def check(self) -> None:
        """Folders are for one of its uses alone.

        Raises:
            UserError: they are given to another.
        """
        if self.runs:
            raise UserError(f"{self.runs[0]}: folders of evaluations go with --curve; a model goes with --model")


@command(EvaluationRequest, EvaluateOptions)
def evaluate(request: EvaluationRequest, options: EvaluateOptions, console: Console) -> None:
    """Measure a model: how much is forgotten, how much is kept."""
    if options.explain:
        from gru_unlearn.benchmark.metric_index import explain_metric  # noqa: PLC0415 - waits for a command

        name = " ".join([options.explain, *map(str, options.runs)])  # several words need no quotes
        console.print(explain_metric(name), highlight=False)
        return
    gc.set_threshold(100_000)  # imports make millions of objects and no garbage: looking less often saves a fifth
    from gru_unlearn.benchmark.curve_job import evaluation_curve  # noqa: PLC0415 - heavy imports wait for a command
    from gru_unlearn.benchmark.evaluate_job import evaluate_model, prepare_evaluation  # noqa: PLC0415
    from gru_unlearn.benchmark.evaluation_tables import curve_table, evaluation_table  # noqa: PLC0415

    overwrite = options.overwrite_output_dir
    if options.curve:
        out = options.out or Path("runs/curve")
        console.print(curve_table(evaluation_curve(options.runs, out, overwrite=overwrite)))
        show_results(console, out)
        return
    out = options.out or Path("runs/evaluate")
    prepared = prepare_evaluation(request, out, overwrite=overwrite)
    summary = evaluate_model(prepared, console, reuse=not options.no_reuse)
    console.print(evaluation_table(summary))
    show_verdict(console, summary.verdict)
    files = {"per_row": "rows.json", "scores": "scores.parquet"}
    written = {what: file for what, file in files.items() if (out / file).is_file()}
    show_results(console, out, report_of=out, **written)
