"""``gru evaluate``: all metrics of a suite, for one model; or finished evaluations side by side."""

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gru_unlearn.benchmark.evaluation_request import EvaluationRequest
from gru_unlearn.cli.flags import OVERWRITE, command, show_results
from gru_unlearn.common.options import option
from gru_unlearn.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class EvaluateOptions:
    """What becomes of an evaluation, and what else the command can do."""

    runs: tuple[Path, ...] = option("Only with --curve: folders of evaluations.", (), argument=True)
    out: Path | None = option("Folder of the results.", None, shown="runs/evaluate")
    overwrite_output_dir: bool = option(OVERWRITE.format("evaluation"), False)
    no_reuse: bool = option("Take no scores from the cache.", False)
    curve: bool = option("Put finished evaluations side by side, and stop.", False)
    explain: str | None = option("Explain a metric, or 'all', and stop.", None)


@command(EvaluationRequest, EvaluateOptions)
def evaluate(request: EvaluationRequest, options: EvaluateOptions, console: "Console") -> None:
    """Measure a model: how much is forgotten, how much is kept."""
    gc.set_threshold(100_000)  # imports make millions of objects and no garbage: looking less often saves a fifth
    if options.curve:
        _show_curve(options, console)
        return
    if options.runs:
        raise UserError(f"{options.runs[0]}: folders of evaluations go with --curve; a model goes with --model")
    if options.explain:
        _explain(options.explain, console)
        return
    from gru_unlearn.benchmark.evaluate_job import SCORES, evaluate_model  # noqa: PLC0415 - heavy, for models only
    from gru_unlearn.reporting import evaluation_table  # noqa: PLC0415

    out = options.out or Path("runs/evaluate")
    reuse = not options.no_reuse
    summary = evaluate_model(request, out, console, overwrite=options.overwrite_output_dir, reuse=reuse)
    console.print(evaluation_table(summary))
    files = {"per_row": "rows.json", "scores": SCORES["model"]}
    written = {what: file for what, file in files.items() if (out / file).is_file()}
    show_results(console, out, report_of=out, **written)


def _explain(key: str, console: "Console") -> None:
    from gru_unlearn.benchmark.evaluate_job import metrics_by_key  # noqa: PLC0415
    from gru_unlearn.reporting import explanation  # noqa: PLC0415

    console.print(explanation(metrics_by_key(), key), highlight=False)


def _show_curve(options: EvaluateOptions, console: "Console") -> None:
    from gru_unlearn.benchmark.curve_job import evaluation_curve  # noqa: PLC0415
    from gru_unlearn.reporting.tables import curve_table  # noqa: PLC0415

    out = options.out or Path("runs/curve")
    console.print(curve_table(evaluation_curve(options.runs, out, overwrite=options.overwrite_output_dir)))
    show_results(console, out)
