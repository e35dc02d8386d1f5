"""Evaluate a model on a suite: check, score once, measure, and write the results."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path

from pydantic import JsonValue
from rich.console import Console

from gru_unlearn.benchmark.evaluated_evidence import evaluation_verdict
from gru_unlearn.benchmark.evaluated_rows import Tables
from gru_unlearn.benchmark.evaluation_request import EvaluationRequest
from gru_unlearn.benchmark.suite_choice import check_request, make_suite
from gru_unlearn.benchmark.suite_room import require_suite_room
from gru_unlearn.common.files import default_cache, write_json
from gru_unlearn.common.versions import versions
from gru_unlearn.data import count_overlap, fingerprint
from gru_unlearn.evaluation import ScoreTable, harness, measure, score
from gru_unlearn.evaluation.cache import find_scores, keep_scores
from gru_unlearn.evaluation.rows import Suite
from gru_unlearn.evaluation.score_key import cache_key, device_name
from gru_unlearn.evaluation.suites import remark_on_unseen
from gru_unlearn.models.model_settings import ASKING
from gru_unlearn.models.subject import Subject, find_subjects
from gru_unlearn.reporting.progress import stages
from gru_unlearn.reporting.prose import say
from gru_unlearn.results.evaluation_summary import EvaluationSummary
from gru_unlearn.results.provenance import RowsSource
from gru_unlearn.results.row_kinds import FORGET, HELD_OUT, RETAIN
from gru_unlearn.results.run_folder import Claim, RunFolder

MODEL, RETAIN_MODEL = "model", "retain_model"
"""Names of the subjects; the second is scored for what the metrics need of a retain model alone."""


@dataclass(frozen=True)
class PreparedEvaluation:
    """An evaluation whose every input was found and checked; nothing has been written yet."""

    request: EvaluationRequest
    suite: Suite | None
    """None: lm-evaluation-harness brings rows and metrics of its own"""
    subjects: dict[str, Subject]
    """the model, and the retain model where one was named"""
    keys: dict[str, str]
    """of their scores, where rows are scored"""
    data: dict[str, RowsSource]
    claim: Claim


def prepare_evaluation(request: EvaluationRequest, out: Path, *, overwrite: bool = False) -> PreparedEvaluation:
    """Check flags, rows, models' folders and the output folder, where another evaluation may be discarded.

    Raises:
        UserError: the first thing that cannot work.
    """
    check_request(request)
    suite, keys, data = None, {}, {}
    if request.suite not in harness.HARNESS_TASKS:
        suite = make_suite(request)
        data = _sources(suite)
    subjects = find_subjects(vars(request), model=request.model, retain_model=request.retain_model)

    if suite is not None:
        for name, subject in subjects.items():
            require_suite_room(subject, suite, retain_model=name == RETAIN_MODEL)
    identity = {"settings": settings_of(request), **{name: subject.sha256 for name, subject in subjects.items()}}
    if suite is not None:
        keys = {name: _key_of_scores(subject, suite) for name, subject in subjects.items()}
        identity |= {"data": {name: rows.sha256 for name, rows in data.items()}, "scores": keys[MODEL]}
    folders = [subject.folder for subject in subjects.values()]
    inputs = (*folders, request.data, request.forget, request.retain, request.unseen)
    claim = RunFolder(out).claim(identity, overwrite=overwrite, inputs=inputs)
    return PreparedEvaluation(request, suite, subjects, keys, data, claim)


def _sources(suite: Suite) -> dict[str, RowsSource]:
    sources = {}
    for name, rows in suite.sets.items():
        sha256 = fingerprint(item.record for item in rows.items)
        sources[name] = RowsSource(rows=len(rows.items), sha256=sha256)
    return sources


def settings_of(request: EvaluationRequest) -> dict[str, JsonValue]:
    """What identifies an evaluation: all flags but the batch size, which changes no result, and those that leave it to
    the model's run how the model is asked."""
    settings = {name: value for name, value in vars(request).items() if name != "batch_size"}
    return {name: value for name, value in settings.items() if value is not None or name not in ASKING}


def evaluate_model(prepared: PreparedEvaluation, console: Console, *, reuse: bool = True) -> EvaluationSummary:
    """Evaluate and return the summary; it also stands in ``summary.json``, beside per-row values and score tables.

    ``reuse``: take score tables of earlier evaluations, where nothing changed that they depend on.

    Raises:
        UserError: another process holds the folder, or a model does not load.
    """
    with prepared.claim.held(resume=False) as folder:
        started = time.perf_counter()
        for remark in _remarks(prepared):
            say(console, remark)
        summary = EvaluationSummary(
            suite=prepared.request.suite,
            metrics={},
            missing={},
            notes={},
            intervals={},
            scores_reused=[],
            seconds=0.0,
            settings=settings_of(prepared.request),
            asked=prepared.subjects[MODEL].settings.asked,
            model=prepared.subjects[MODEL].provenance,
            versions=versions(),
        )
        if RETAIN_MODEL in prepared.subjects:
            summary.retain_model = prepared.subjects[RETAIN_MODEL].provenance
        tables: Tables = {}
        if prepared.suite is None:
            _ask_harness(prepared, summary)
        else:
            tables = _score_and_measure(prepared, prepared.suite, summary, console, reuse=reuse)
        summary.verdict = evaluation_verdict(summary, tables)
        summary.seconds = round(time.perf_counter() - started, 2)
        folder.finish(summary)
    return summary


def _remarks(prepared: PreparedEvaluation) -> Iterator[str]:
    """What a reader should know of models and rows before any number."""
    subjects = prepared.subjects
    if RETAIN_MODEL in subjects and subjects[MODEL].is_same_as(subjects[RETAIN_MODEL]):
        yield "The retain model has the weights of the model: what is compared with it says nothing."
    if prepared.suite is None:
        return
    sets = {name: [item.record for item in rows.items] for name, rows in prepared.suite.sets.items()}
    yield from remark_on_unseen(sets)
    forget, kept = sets[FORGET.key], chain.from_iterable(sets.get(kind.key, ()) for kind in (RETAIN, HELD_OUT))
    if both := count_overlap(forget, kept):
        yield f"{both} of {len(forget)} forget rows are also among those to keep, and count for both."


# --- scores: made once, kept in the cache, and taken again where nothing changed --------------------------------------


def _key_of_scores(subject: Subject, suite: Suite) -> str:
    """Changes with all that may change the scores."""
    settings = {
        "dtype": subject.settings.dtype,
        "device": device_name(),
        "trust_remote_code": str(subject.settings.trust_remote_code),
        "attention": str(subject.settings.attn_implementation),
    }
    for_retain = subject.name == RETAIN_MODEL
    return cache_key(subject.sha256, suite, subject.encoder, retain_model=for_retain, settings=settings)


def _score_and_measure(
    prepared: PreparedEvaluation, suite: Suite, summary: EvaluationSummary, console: Console, *, reuse: bool
) -> Tables:
    """Every metric of a suite that scores rows, and the scores; the retain model comes first."""
    folder, kept_in = prepared.claim.folder, default_cache() / "scores"
    tables: dict[str, ScoreTable] = {}
    for name, subject in reversed(prepared.subjects.items()):
        table = find_scores(kept_in, prepared.keys[name]) if reuse else None
        if table is not None:
            summary.scores_reused.insert(0, name)
            told = f"scores of an earlier run reused, from {kept_in} (--no-reuse computes them anew)"
            say(console, f"{subject.label}: {told}")
        tables[name] = table or _score_anew(prepared, suite, subject, kept_in, console)
    evaluation = measure(suite.metrics, tables[MODEL], tables.get(RETAIN_MODEL), suite.impossible)
    for name, table in tables.items():
        table.save(folder.scores_file(name))
    write_json(folder.rows_file, evaluation.rows)
    summary.metrics, summary.missing = evaluation.metrics, evaluation.missing
    summary.notes, summary.intervals = evaluation.notes, evaluation.intervals
    summary.data = prepared.data
    return tables


def _score_anew(
    prepared: PreparedEvaluation, suite: Suite, subject: Subject, keep_in: Path, console: Console
) -> ScoreTable:
    """Score a model, and keep the scores for later evaluations."""
    with stages(console, subject.label) as on_progress:
        table = score(
            subject.load(),
            subject.encoder,
            suite,
            retain_model=subject.name == RETAIN_MODEL,
            batch_size=prepared.request.batch_size,
            on_progress=on_progress,
        )
    try:
        keep_scores(keep_in, prepared.keys[subject.name], table)
    except OSError as error:  # an evaluation does not fail for want of a cache
        say(console, f"{subject.label}: scores are not kept for later runs ({error})")
    return table


# --- lm-evaluation-harness: no scores and no per-row values -----------------------------------------------------------


def _ask_harness(prepared: PreparedEvaluation, summary: EvaluationSummary) -> None:
    """WMDP or MMLU."""
    request, subject = prepared.request, prepared.subjects[MODEL]
    summary.metrics |= harness.multiple_choice(
        subject.load(),
        subject.encoder,
        harness.HARNESS_TASKS[request.suite],
        batch_size=request.batch_size,
        limit=request.limit,
        folder=request.data,
    )
    summary.versions["lm-eval"] = version("lm-eval")
