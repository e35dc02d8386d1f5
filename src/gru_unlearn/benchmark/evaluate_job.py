"""Evaluate a model on a suite: check, score once, measure, and write the results."""

import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pydantic import JsonValue
from rich.console import Console

from gru_unlearn.benchmark.evaluation_request import EvaluationRequest
from gru_unlearn.benchmark.kept_scores import RETAIN_MODEL, find_kept_scores, key_of_scores, score_subject
from gru_unlearn.benchmark.suite_choice import check_request, make_suite
from gru_unlearn.common.files import write_json
from gru_unlearn.common.versions import versions
from gru_unlearn.data import fingerprint
from gru_unlearn.evaluation import ScoreTable, harness, measure
from gru_unlearn.evaluation.rows import Suite
from gru_unlearn.models.model_settings import ModelSettings
from gru_unlearn.models.subject import Subject
from gru_unlearn.results.evaluation_summary import EvaluationSummary
from gru_unlearn.results.provenance import RowsSource
from gru_unlearn.results.run_folder import Claim, RunFolder

MODEL = "model"


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
    subjects = _find_subjects(request)

    identity = {"settings": settings_of(request), **{name: subject.sha256 for name, subject in subjects.items()}}
    if suite is not None:
        keys = {name: key_of_scores(subject, suite) for name, subject in subjects.items()}
        identity |= {"data": {name: rows.sha256 for name, rows in data.items()}, "scores": keys[MODEL]}
    folders = [subject.folder for subject in subjects.values()]
    inputs = (*folders, request.data, request.forget, request.retain, request.unseen)
    claim = RunFolder(out).claim(identity, overwrite=overwrite, inputs=inputs)
    return PreparedEvaluation(request, suite, subjects, keys, data, claim)


def _find_subjects(request: EvaluationRequest) -> dict[str, Subject]:
    settings = ModelSettings.among(vars(request))
    subjects = {}
    for name, source in ((MODEL, request.model), (RETAIN_MODEL, request.retain_model)):
        if source:
            subjects[name] = Subject.find(name, source, settings)
    return subjects


def _sources(suite: Suite) -> dict[str, RowsSource]:
    sources = {}
    for name, rows in suite.sets.items():
        sha256 = fingerprint(item.record for item in rows.items)
        sources[name] = RowsSource(rows=len(rows.items), sha256=sha256)
    return sources


def settings_of(request: EvaluationRequest) -> dict[str, JsonValue]:
    """What identifies an evaluation: all flags but the batch size, which changes no result."""
    return {name: value for name, value in vars(request).items() if name != "batch_size"}


def evaluate_model(prepared: PreparedEvaluation, console: Console, *, reuse: bool = True) -> EvaluationSummary:
    """Evaluate and return the summary; it also stands in ``summary.json``, beside per-row values and score tables.

    ``reuse``: take score tables of earlier evaluations, where nothing changed that they depend on.

    Raises:
        UserError: another process holds the folder, or a model does not load.
    """
    with prepared.claim.held(resume=False) as folder:
        started = time.perf_counter()
        summary = EvaluationSummary(
            suite=prepared.request.suite,
            metrics={},
            missing={},
            notes={},
            intervals={},
            scores_reused=[],
            seconds=0.0,
            settings=settings_of(prepared.request),
            model=prepared.subjects[MODEL].provenance,
            versions=versions(),
        )
        if RETAIN_MODEL in prepared.subjects:
            summary.retain_model = prepared.subjects[RETAIN_MODEL].provenance
        if prepared.suite is None:
            _ask_harness(prepared, summary)
        else:
            _score_and_measure(prepared, prepared.suite, summary, console, reuse=reuse)
        summary.seconds = round(time.perf_counter() - started, 2)
        folder.finish(summary)
    return summary


def _score_and_measure(
    prepared: PreparedEvaluation, suite: Suite, summary: EvaluationSummary, console: Console, *, reuse: bool
) -> None:
    """Every metric of a suite that scores rows; the retain model comes first."""
    folder, size = prepared.claim.folder, prepared.request.batch_size
    tables: dict[str, ScoreTable] = {}
    reused: list[str] = []
    for name, subject in reversed(prepared.subjects.items()):
        key, kept = prepared.keys[name], None
        if reuse:
            kept = find_kept_scores(subject, key, console)
        if kept is not None:
            reused.insert(0, name)
        tables[name] = kept or score_subject(subject, suite, key, console, batch_size=size)
    evaluation = measure(suite.metrics, tables[MODEL], tables.get(RETAIN_MODEL), suite.impossible)
    for name, table in tables.items():
        table.save(folder.scores_file(name))
    write_json(folder.rows_file, evaluation.rows)
    summary.metrics, summary.missing = evaluation.metrics, evaluation.missing
    summary.notes, summary.intervals = evaluation.notes, evaluation.intervals
    summary.scores_reused, summary.data = reused, prepared.data


def _ask_harness(prepared: PreparedEvaluation, summary: EvaluationSummary) -> None:
    """WMDP or MMLU: no score tables and no per-row values."""
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
