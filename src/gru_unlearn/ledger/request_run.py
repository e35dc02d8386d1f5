"""Run what was requested, one request after the other: each starts from the model that the last accepted one left.

A request is *adopted* when its run forgot enough, brought no former forget set back and kept enough; otherwise it is
refused, and the model before it stays the newest. What happened stands in the ledger, a run in ``versions/NUMBER-ID``,
where `gru unlearn` would have put it. A run that dies goes on where it was.
"""

import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from rich.console import Console

from gru_unlearn.common.files import whole_folder
from gru_unlearn.data import fingerprint, load_records
from gru_unlearn.errors import NonFiniteError, UserError
from gru_unlearn.evaluation.suites import own
from gru_unlearn.ledger.adoption import hashes_of, judge, look, probabilities
from gru_unlearn.ledger.database import Ledger, sole_use
from gru_unlearn.ledger.hash_chain import CREATED, BrokenLedger, ChainEntry
from gru_unlearn.ledger.ledger_setup import first_model, recipe_for
from gru_unlearn.ledger.replay import check
from gru_unlearn.ledger.standing import write_summary
from gru_unlearn.models.loading import load_model, load_tokenizer
from gru_unlearn.models.locating import holds_adapters
from gru_unlearn.models.weights import hash_weights
from gru_unlearn.reporting.prose import say
from gru_unlearn.reporting.tables import plural
from gru_unlearn.results.ledger_summary import DeletionRequest, LedgerSummary, Outcome
from gru_unlearn.results.manner import Manner
from gru_unlearn.results.provenance import ModelSource, RowsSource
from gru_unlearn.results.row_kinds import KEPT
from gru_unlearn.results.run_folder import RunFolder
from gru_unlearn.results.run_summary import RunRecord
from gru_unlearn.runs.forewarnings import forewarn
from gru_unlearn.runs.recipe import Recipe
from gru_unlearn.runs.run_preparation import Prepared, prepare
from gru_unlearn.runs.unlearn_job import unlearn


class RequestRefused(Exception):
    """A request's result was not adopted because it broke a limit. Exit code 5."""

    exit_code = 5


def run_requests(folder: Path, console: Console) -> LedgerSummary:
    """Process what is running (it died) or pending, in order, and return the summary.

    Raises:
        UserError: another process runs this ledger, or data or model are not what the ledger says; nothing changed.
        BrokenLedger: the ledger does not hold.
        RequestRefused: a result broke a limit; it is not adopted, and later requests stay pending.
        NonFiniteError: training diverged; that request failed, and later ones stay pending.
        Interrupted: Ctrl-C; the same command goes on.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("gru requests run works in one process: start it without torchrun or accelerate launch")
    with Ledger.open(folder) as ledger, sole_use(folder):
        check(ledger)
        try:
            while waiting := ledger.requests("running", "pending"):
                _process(ledger, min(waiting, key=lambda one: (one.state == "pending", one.number)), console)
        finally:
            summary = write_summary(ledger)
    return summary


def _process(ledger: Ledger, request: DeletionRequest, console: Console) -> None:
    """One request from wherever it is to done, refused or failed. Each ``move`` is a point that a death cannot undo."""
    say(console, f"Request {request.id}: {plural(request.rows, 'row')} from {request.source}")
    begun = ledger.last("started", id=request.id) if request.state == "running" else None
    settings = ledger.settings(begun.settings_sha256 if begun else "")
    before = ledger.newest_model()
    folder = RunFolder(ledger.folder / "versions" / request.version)
    recipe = recipe_for(settings.unlearning, str(before.source), request.source, folder.path)

    prepared = None
    if begun is not None and folder.is_finished:
        _check_finished(folder, before, request.data_sha256)
    else:
        prepared = _prepare(ledger, request, recipe, before)
        forewarn(prepared)
        _begin(ledger, request, prepared, begun, console)
    try:
        if prepared is not None:
            unlearn(prepared, console)
        model = _whole_model(folder, recipe)
        metrics, broken = judge(ledger, request, recipe, model, settings, console)
    except NonFiniteError as error:
        ledger.move("failed", request, Outcome(weights_before=before.sha256, why=str(error)))
        raise

    outcome = Outcome(weights_before=before.sha256, weights_after=hash_weights(model), why="; ".join(broken))
    outcome.model, outcome.metrics = model.relative_to(ledger.folder).as_posix(), metrics
    _conclude(ledger, request, outcome, broken)


def _conclude(ledger: Ledger, request: DeletionRequest, outcome: Outcome, broken: Collection[str]) -> None:
    """Note the end of a run, whose model is adopted unless it broke a limit."""
    ledger.move("refused" if broken else "done", request, outcome)
    if broken:
        raise RequestRefused(
            f"request {request.id} refused: {outcome.why}. The model before it stays the newest; set limits or "
            f"settings with gru requests change {ledger.folder}, then gru requests retry {ledger.folder} {request.id}"
        )


def _prepare(ledger: Ledger, request: DeletionRequest, recipe: Recipe, before: ModelSource) -> Prepared:
    """Everything checked again before a run, and rows of requests so far, or done, taken out of the other sets."""
    if fingerprint(load_records(request.source)) != request.data_sha256:
        raise UserError(
            f"request {request.id}: {request.source} is not what was added (its hash differs): restore it, or "
            f"gru requests withdraw {ledger.folder} {request.id} and add it anew"
        )
    prepared = prepare(recipe)
    if prepared.model.sha256 != before.sha256:
        raise UserError(
            f"{recipe.model} is not the model of the ledger (its hash differs): gru requests verify says more"
        )
    return _without(prepared, ledger.named_rows(request.number), ledger.key)


def _without(prepared: Prepared, named: Collection[str], key: bytes) -> Prepared:
    """The same run without the rows of these hashes in the retain and held-out sets."""
    sets, examples = dict(prepared.sets), dict(prepared.examples)
    for kind in KEPT:
        rows = sets.get(kind.key, [])
        left = [record for record in rows if hashes_of(key, record).isdisjoint(named)]
        if rows and not left:
            raise UserError(f"no {kind.label} row is left: every one is in a request")
        if left != rows:
            sets[kind.key], examples[kind.key] = left, prepared.model.encoder.encode_all(left, kind.key)
    suite = own(sets["forget"], sets["retain"]) if prepared.recipe.eval_suite == "own" else prepared.suite
    return replace(prepared, sets=sets, examples=examples, suite=suite)


def _begin(
    ledger: Ledger, request: DeletionRequest, prepared: Prepared, begun: ChainEntry | None, console: Console
) -> None:
    """Note that the run begins, and what the model knows of the forget rows; or check that it may go on."""
    kept = {kind.key: prepared.sets[kind.key] for kind in KEPT if kind.key in prepared.sets}
    rows_used = {name: RowsSource(rows=len(rows), sha256=fingerprint(rows)) for name, rows in kept.items()}
    if begun is None:
        outcome = Outcome(weights_before=prepared.model.sha256, rows_used=rows_used)
        _note_what_was_known(outcome, ledger, prepared, console)
        ledger.move("started", request, outcome)
    elif begun.rows_used != rows_used:
        raise UserError(
            f"request {request.id}: retain or held-out rows changed since it started: restore them, or "
            f"gru requests retry {ledger.folder} {request.id} starts it anew"
        )


def _note_what_was_known(outcome: Outcome, ledger: Ledger, prepared: Prepared, console: Console) -> None:
    """The forget rows' probability under the model before this request, and under the first one while it is there; and
    how many the model before answers word for word."""
    sets = {"forget": prepared.sets["forget"]}
    looked = look(prepared.recipe, prepared.model.folder, sets, console, "before", ask="forget")
    outcome.forget_prob_before = fmean(looked.probabilities["forget"])
    if looked.said is not None:
        outcome.said_before = looked.said
    outcome.forget_prob_first_model = None
    first = ledger.last(CREATED).weights_after
    if first == prepared.model.sha256:
        outcome.forget_prob_first_model = outcome.forget_prob_before
        return
    folder = first_model(ledger)
    if folder is not None and hash_weights(folder) == first:
        by_first = probabilities(prepared.recipe, folder, sets, console, "first model")
        outcome.forget_prob_first_model = fmean(by_first["forget"])


def _check_finished(folder: RunFolder, before: ModelSource, data_sha256: str) -> None:
    """A run that ended just before a death must be the one that the ledger started."""
    summary = RunRecord.read(folder.summary_file)
    if summary is None or (summary.model.sha256, summary.data["forget"].sha256) != (before.sha256, data_sha256):
        raise BrokenLedger(f"{folder.path} holds another run than the one that the ledger started")


def _whole_model(folder: RunFolder, recipe: Recipe) -> Path:
    """The model as whole weights, for the next run to start from: adapters are merged into a folder of their own."""
    if not holds_adapters(folder.model):
        return folder.model
    whole = folder.path / "whole"
    if not whole.is_dir():
        model = load_model(folder.model, dtype=recipe.dtype, trust_remote_code=recipe.trust_remote_code)
        tokenizer = load_tokenizer(folder.model, trust_remote_code=recipe.trust_remote_code)
        with whole_folder(whole) as part:
            model.save_pretrained(part)
            tokenizer.save_pretrained(part)
            _carry_manner(folder.model, part)
    return whole


def _carry_manner(adapters: Path, whole: Path) -> None:
    """Merged adapters are asked as they were, and have no base."""
    manner = Manner.beside(adapters)
    if manner is not None:
        Manner(asked=manner.asked, version=manner.version).write_beside(whole)
