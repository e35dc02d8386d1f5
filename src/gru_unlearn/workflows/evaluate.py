"""Evaluate a model on a suite: check, score once, measure, and write the results."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from gru_unlearn.data import Encoder, fingerprint, load_records
from gru_unlearn.errors import UserError, nearest
from gru_unlearn.evaluation import Evaluation, Metric, ScoreTable, evaluate, score, suites
from gru_unlearn.evaluation.cache import cache_key, hash_weights
from gru_unlearn.evaluation.muse import muse, muse_metrics
from gru_unlearn.evaluation.rows import Suite
from gru_unlearn.reporting import versions, write_json
from gru_unlearn.workflows.models import load_model, load_tokenizer, locate
from gru_unlearn.workflows.progress import stages
from gru_unlearn.workflows.rundir import SUMMARY_FILE, check_output, owned

ROWS_FILE = "rows.json"
SCORES_FILE = "scores.parquet"
RETAIN_SCORES_FILE = "retain_scores.parquet"


@dataclass(frozen=True)
class EvaluationRequest:
    """What to evaluate on what; the fields are the flags of ``gru evaluate``."""

    model: str
    suite: str = "builtin"
    data: str | None = None
    forget_split: str = "forget10"
    holdout_split: str | None = None
    forget: str | None = None
    retain: str | None = None
    retain_model: str | None = None
    batch_size: int = 32
    max_length: int = 512
    dtype: str = "auto"
    trust_remote_code: bool = False


def make_suite(request: EvaluationRequest) -> Suite:
    """The suite that a request names.

    Raises:
        UserError: an unknown suite, or data that it needs and does not find.
    """
    match request.suite:
        case "tofu":
            return suites.tofu(request.data or "locuslab/TOFU", request.forget_split, request.holdout_split)
        case "builtin":
            return suites.builtin(request.data or "builtin")
        case "muse":
            if not request.data:
                raise UserError("--suite muse needs --data, a folder in MUSE's layout or muse-bench/MUSE-News")
            return muse(request.data)
        case "own":
            if not request.forget:
                raise UserError("--suite own needs --forget, a file of your rows (and better also --retain)")
            retain = load_records(request.retain) if request.retain else []
            return suites.own(load_records(request.forget), retain)
        case unknown:
            raise UserError(f"unknown suite {unknown!r}{nearest(unknown, ('tofu', 'muse', 'builtin', 'own'))}")


def evaluate_model(
    request: EvaluationRequest, out: Path, console: Console, *, overwrite: bool = False
) -> dict[str, Any]:
    """Evaluate, write ``summary.json``, per-row values and score tables to ``out``, and return the summary.

    Raises:
        UserError: something that cannot work, found before any scoring.
    """
    if request.batch_size < 1:
        raise UserError(f"--batch-size must be at least 1, got {request.batch_size}")
    suite = make_suite(request)
    folders = {"model": locate(request.model)}
    if request.retain_model:
        folders["retain_model"] = locate(request.retain_model, "--retain-model")
    data = {name: fingerprint(item.record for item in rows.items) for name, rows in suite.sets.items()}
    identity = {
        "settings": {key: value for key, value in vars(request).items() if key not in ("batch_size",)},
        "data": data,
        **{name: hash_weights(folder) for name, folder in folders.items()},
        "scores": cache_key(folders["model"], suite, _encoder(request, folders["model"])),
    }
    check_output(out, identity, overwrite=overwrite)
    started = time.perf_counter()
    with owned(out, identity, resume=False):
        evaluation, retain_table = _measure(request, suite, folders, console)
        evaluation.table.save(out / SCORES_FILE)
        if retain_table is not None:
            retain_table.save(out / RETAIN_SCORES_FILE)
        write_json(out / ROWS_FILE, evaluation.rows)
        summary = {
            "command": "evaluate",
            "suite": suite.name,
            "metrics": evaluation.metrics,
            "missing": evaluation.missing,
            "notes": evaluation.notes,
            "intervals": evaluation.intervals,
            "seconds": round(time.perf_counter() - started, 2),
            "settings": identity["settings"],
            "data": {name: {"rows": len(rows.items), "sha256": data[name]} for name, rows in suite.sets.items()},
            **{name: {"source": getattr(request, name), "sha256": identity[name]} for name in folders},
            "versions": versions(),
        }
        write_json(out / SUMMARY_FILE, summary)
    return summary


def _measure(
    request: EvaluationRequest, suite: Suite, folders: dict[str, Path], console: Console
) -> tuple[Evaluation, ScoreTable | None]:
    retain_table = None
    if "retain_model" in folders:
        model, encoder = load_for_scoring(request, folders["retain_model"])
        with stages(console, "retain model") as on_progress:
            retain_table = score(
                model, encoder, suite, batch_size=request.batch_size, retain_model=True, on_progress=on_progress
            )
        del model
    model, encoder = load_for_scoring(request, folders["model"])
    with stages(console, "model") as on_progress:
        evaluation = evaluate(
            model, encoder, suite, retain_table=retain_table, batch_size=request.batch_size, on_progress=on_progress
        )
    return evaluation, retain_table


def load_for_scoring(request: EvaluationRequest, folder: Path) -> tuple[Any, Encoder]:
    """A model, on the GPU where there is one, and the encoder of its tokenizer."""
    model: Any = load_model(folder, dtype=request.dtype, trust_remote_code=request.trust_remote_code)
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), _encoder(request, folder)


def _encoder(request: EvaluationRequest, folder: Path) -> Encoder:
    tokenizer = load_tokenizer(folder, trust_remote_code=request.trust_remote_code)
    return Encoder(tokenizer, max_length=request.max_length)


def metrics_by_key() -> dict[str, Metric]:
    """Every metric of every suite, for explaining."""
    return {metric.key: metric for metric in (*muse_metrics(), *suites.builtin_metrics(), *suites.tofu_metrics())}
