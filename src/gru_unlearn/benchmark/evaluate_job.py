"""Evaluate a model on a suite: check, score once, measure, and write the results."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from gru_unlearn.benchmark.evaluation_request import EvaluationRequest
from gru_unlearn.common.files import write_json
from gru_unlearn.common.versions import versions
from gru_unlearn.data import Encoder, fingerprint, load_records
from gru_unlearn.data.cache_folder import default_cache
from gru_unlearn.errors import UserError, nearest
from gru_unlearn.evaluation import Metric, ScoreTable, harness, measure, score, suites
from gru_unlearn.evaluation.cache import find_scores, keep_scores
from gru_unlearn.evaluation.matched import rmf_explanations
from gru_unlearn.evaluation.measure import Explanation
from gru_unlearn.evaluation.muse import muse, muse_metrics
from gru_unlearn.evaluation.rows import Suite
from gru_unlearn.evaluation.score_key import cache_key
from gru_unlearn.models.loading import load_model, load_tokenizer, locate
from gru_unlearn.models.weights import hash_weights
from gru_unlearn.results.run_folder import SUMMARY_FILE, RunFolder

ROWS_FILE = "rows.json"
SCORES = {"model": "scores.parquet", "retain_model": "retain_scores.parquet"}
"""Model → the file of its score table."""

SUITES = ("tofu", "muse", "builtin", "own", *harness.HARNESS_TASKS)
DTYPES = ("auto", "float32", "bfloat16", "float16")

BELONGS_TO = {
    "data": ("tofu", "muse", "builtin", *harness.HARNESS_TASKS),
    "forget": ("own",),
    "retain": ("own",),
    "unseen": ("own",),
    "unseen_split": ("tofu",),
    "retain_model": ("tofu", "muse", "builtin", "own"),
    "limit": tuple(harness.HARNESS_TASKS),
}
"""Flags that only some suites know, so that none is ignored silently."""


@dataclass(frozen=True)
class Subject:
    """A model to score: where it is, what it is, and the key of its scores."""

    folder: Path
    weights: str
    encoder: Encoder
    key: str


def make_suite(request: EvaluationRequest) -> Suite:
    """The suite that a request names, one of those that score rows.

    Raises:
        UserError: data that it needs and does not find.
    """
    match request.suite:
        case "tofu":
            return suites.tofu(request.data or "locuslab/TOFU", request.forget_split, request.unseen_split)
        case "muse":
            if not request.data:
                raise UserError("--suite muse needs --data, a folder in MUSE's layout or muse-bench/MUSE-News")
            return muse(request.data)
        case "own":
            if not request.forget:
                raise UserError("--suite own needs --forget, a file of your rows (and better also --retain)")
            sources = (request.forget, request.retain, request.unseen)
            return suites.own(*(load_records(source) if source else [] for source in sources))
        case _:
            return suites.builtin(request.data or "builtin")


def evaluate_model(
    request: EvaluationRequest, out: Path, console: Console, *, overwrite: bool = False, reuse: bool = True
) -> dict[str, Any]:
    """Evaluate, write ``summary.json``, per-row values and score tables to ``out``, and return the summary.

    Args:
        request: what to evaluate on what.
        out: folder of the results.
        console: for progress, and for saying which scores were reused.
        overwrite: discard another evaluation in ``out``.
        reuse: take score tables of earlier runs from the cache, where nothing changed that they depend on.

    Raises:
        UserError: something that cannot work, found before any scoring.
    """
    _check(request)
    if request.suite in harness.HARNESS_TASKS:
        return _evaluate_by_harness(request, out, overwrite)
    suite = make_suite(request)
    subjects = {name: _subject(request, suite, name) for name in SCORES if getattr(request, name)}
    data = {name: fingerprint(item.record for item in rows.items) for name, rows in suite.sets.items()}
    identity = {
        "settings": _settings(request),
        "data": data,
        **{name: subject.weights for name, subject in subjects.items()},
        "scores": subjects["model"].key,
    }
    inputs = (subject.folder for subject in subjects.values())
    sources = (request.data, request.forget, request.retain, request.unseen)
    RunFolder(out).check(identity, overwrite=overwrite, inputs=(*inputs, *sources))
    started = time.perf_counter()
    with RunFolder(out).held(identity, resume=False):
        kept = {name: _kept_scores(name, subject, console) if reuse else None for name, subject in subjects.items()}
        tables = {name: kept[name] or _score(request, suite, name, subjects[name], console) for name in reversed(kept)}
        evaluation = measure(suite.metrics, tables["model"], tables.get("retain_model"), suite.impossible)
        for name, table in tables.items():
            table.save(out / SCORES[name])
        write_json(out / ROWS_FILE, evaluation.rows)
        summary = _summary(request, identity, evaluation.metrics, started) | {
            "missing": evaluation.missing,
            "notes": evaluation.notes,
            "intervals": evaluation.intervals,
            "scores_reused": [name for name, table in kept.items() if table],
            "data": {name: {"rows": len(rows.items), "sha256": data[name]} for name, rows in suite.sets.items()},
        }
        write_json(out / SUMMARY_FILE, summary)
    return summary


def _check(request: EvaluationRequest) -> None:
    """Flags by themselves, before anything is read."""
    if not request.model:
        raise UserError("no model given: pass --model")
    if request.suite not in SUITES:
        raise UserError(f"unknown suite {request.suite!r}{nearest(request.suite, SUITES)}")
    if request.dtype not in DTYPES:
        raise UserError(f"--dtype: unknown type {request.dtype!r}{nearest(request.dtype, DTYPES)}")
    for name, known in BELONGS_TO.items():
        if getattr(request, name) is not None and request.suite not in known:
            flag = name.replace("_", "-")
            raise UserError(f"--{flag} belongs to --suite {' or '.join(known)}, not to --suite {request.suite}")


def _settings(request: EvaluationRequest) -> dict[str, Any]:
    """What identifies an evaluation: all flags but the batch size, which changes no result."""
    return {key: value for key, value in vars(request).items() if key != "batch_size"}


def _subject(request: EvaluationRequest, suite: Suite, name: str) -> Subject:
    folder = locate(getattr(request, name), f"--{name.replace('_', '-')}")
    weights, encoder = hash_weights(folder), _encoder(request, folder)
    settings = {
        "dtype": request.dtype,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "trust_remote_code": str(request.trust_remote_code),
    }
    key = cache_key(weights, suite, encoder, retain_model=name == "retain_model", settings=settings)
    return Subject(folder, weights, encoder, key)


def _kept_scores(name: str, subject: Subject, console: Console) -> ScoreTable | None:
    folder = scores_folder()
    table = find_scores(folder, subject.key)
    if table is not None:
        console.print(
            f"{_words(name)}: scores of an earlier run reused, from {folder} (--no-reuse computes them anew)",
            soft_wrap=True,
        )
    return table


def _score(request: EvaluationRequest, suite: Suite, name: str, subject: Subject, console: Console) -> ScoreTable:
    """Score a model, and keep the scores for later runs."""
    from gru_unlearn.reporting.progress import stages  # noqa: PLC0415 - brings Trainer's callbacks, slow to import

    model = _load(request, subject.folder)
    with stages(console, _words(name)) as on_progress:
        table = score(
            model,
            subject.encoder,
            suite,
            retain_model=name == "retain_model",
            batch_size=request.batch_size,
            on_progress=on_progress,
        )
    try:
        keep_scores(scores_folder(), subject.key, table)
    except OSError as error:  # an evaluation does not fail for want of a cache
        console.print(f"{_words(name)}: scores are not kept for later runs ({error})", soft_wrap=True)
    return table


def _words(name: str) -> str:
    return name.replace("_", " ")


def scores_folder() -> Path:
    """Where score tables are kept for later runs."""
    return default_cache() / "scores"


def _evaluate_by_harness(request: EvaluationRequest, out: Path, overwrite: bool) -> dict[str, Any]:
    """WMDP or MMLU: no score tables and no per-row values."""
    harness.require_harness()
    if request.data and not Path(request.data).is_dir():
        raise UserError(f"--data {request.data}: no such folder (of task files for lm-evaluation-harness)")
    if request.data and not request.trust_remote_code:
        raise UserError(f"--data {request.data}: task files can run code: pass --trust-remote-code if you trust them")
    folder = locate(request.model)
    identity = {"settings": _settings(request), "model": hash_weights(folder)}
    RunFolder(out).check(identity, overwrite=overwrite, inputs=(folder, request.data))
    started = time.perf_counter()
    with RunFolder(out).held(identity, resume=False):
        model, encoder = load_for_scoring(request, folder)
        metrics = harness.multiple_choice(
            model,
            encoder,
            harness.HARNESS_TASKS[request.suite],
            batch_size=request.batch_size,
            limit=request.limit,
            folder=request.data,
        )
        summary = _summary(request, identity, metrics, started)
        summary["versions"] |= {"lm-eval": version("lm-eval")}
        write_json(out / SUMMARY_FILE, summary)
    return summary


def _summary(
    request: EvaluationRequest, identity: Mapping[str, Any], metrics: Mapping[str, float | None], started: float
) -> dict[str, Any]:
    """What every evaluation's summary says."""
    return {
        "command": "evaluate",
        "suite": request.suite,
        "metrics": metrics,
        "missing": {},
        "notes": {},
        "intervals": {},
        "scores_reused": [],
        "seconds": round(time.perf_counter() - started, 2),
        "settings": identity["settings"],
        **{name: {"source": getattr(request, name), "sha256": identity[name]} for name in SCORES if name in identity},
        "versions": versions(),
    }


def load_for_scoring(request: EvaluationRequest, folder: Path) -> tuple[Any, Encoder]:
    """A model, on the GPU where there is one, and the encoder of its tokenizer."""
    return _load(request, folder), _encoder(request, folder)


def _load(request: EvaluationRequest, folder: Path) -> Any:
    model: Any = load_model(folder, dtype=request.dtype, trust_remote_code=request.trust_remote_code)
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def _encoder(request: EvaluationRequest, folder: Path) -> Encoder:
    tokenizer = load_tokenizer(folder, trust_remote_code=request.trust_remote_code)
    return Encoder(tokenizer, max_length=request.max_length)


def metrics_by_key() -> dict[str, Metric | Explanation]:
    """Every metric of every suite, and RMF, for explaining."""
    explained: tuple[Metric | Explanation, ...] = (
        *muse_metrics(),
        *suites.builtin_metrics(),
        *suites.tofu_metrics(),
        *harness.harness_explanations(),
        *rmf_explanations(),
    )
    return {metric.key: metric for metric in explained}
