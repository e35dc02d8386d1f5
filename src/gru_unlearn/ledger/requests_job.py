"""Requests to forget, one after the other: each starts from the model that the last accepted one left.

A request is *adopted* when its run forgot enough, brought no former forget set back and kept enough; otherwise it is
refused, and the model before it stays the newest. What happened stands in the ledger (:mod:`ledger`), a run in
``versions/NUMBER-ID``, where `gru unlearn` would have put it. A run that dies goes on where it was.
"""

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from gru_unlearn.common.files import finish, read_json, unfinished, write_json
from gru_unlearn.data import Record, fingerprint, load_records
from gru_unlearn.errors import NonFiniteError, UserError
from gru_unlearn.evaluation.suites import own
from gru_unlearn.ledger.adoption import KEPT, judge, mark_of, probabilities, score_kept
from gru_unlearn.ledger.database import CREATED, BrokenLedger, Kept, Ledger, Request, new_key
from gru_unlearn.ledger.limits import Limits
from gru_unlearn.models.loading import load_model, load_tokenizer, locate
from gru_unlearn.models.weights import hash_weights
from gru_unlearn.results.run_folder import LOCK_FILE, SUMMARY_FILE
from gru_unlearn.runs.recipe import Recipe, make_recipe
from gru_unlearn.runs.unlearn_job import MODEL_FOLDER, Prepared, prepare, unlearn
from gru_unlearn.training import encoder_for

VERSIONS_FOLDER = "versions"
WHOLE_FOLDER = "whole"
"""Beside ``model`` where that holds adapters only: the two merged, which the next request starts from."""

FORCED = {"allow_overlap": True, "report_examples": 0}
"""The ledger takes forget rows out of the other sets itself, and no row may be written down in a run's folder."""

_PATHS = ("model", "retain_model", "retain", "held_out", "eval_data")


class RequestRefused(Exception):
    """A request's result was not adopted because it broke a limit. Exit code 5."""

    exit_code = 5


# --- settings ------------------------------------------------------------------------------------------------------


def init(folder: Path, settings: Mapping[str, Any], limits: Limits, console: Console) -> dict[str, Any]:
    """Make a ledger: check the settings, score the first model on the rows to keep, write the first entry.

    Args:
        folder: of the ledger, new or empty.
        settings: of ``gru unlearn``, for every request; model and retain are needed, forget and output_dir not taken.
        limits: what results must meet.
        console: for progress.

    Raises:
        UserError: settings, data, model or folder that cannot work.
    """
    if folder.is_file() or (folder.is_dir() and any(file.name != LOCK_FILE for file in folder.iterdir())):
        raise UserError(f"{folder} is not empty: a ledger needs a new folder")
    recipe, settings = _check_settings(settings)
    first = locate(recipe.model)
    if (first / "adapter_config.json").is_file():
        raise UserError(f"--model {recipe.model} is an adapter: a ledger starts from whole weights, merge it first")
    key = new_key()
    kept = score_kept(recipe, key, first, console)
    folder.mkdir(parents=True, exist_ok=True)
    with _held(folder):
        content = {"unlearning": settings, **vars(limits)}
        with Ledger.create(folder, content, key=key, kept=kept, weights_after=hash_weights(first)) as ledger:
            return _write_summary(ledger)


def change(folder: Path, settings: Mapping[str, Any], limits: Mapping[str, float], console: Console) -> dict[str, Any]:
    """Other settings or limits for the requests that start from now on; what is not named stays.

    New retain or held-out rows are scored with the first model, which must still be there then.

    Raises:
        UserError: nothing named, a setting that cannot work, another first model, or the first model is gone.
    """
    if not settings and not limits:
        raise UserError("nothing to change: name a setting, such as --learning-rate 1e-5 or --utility-floor 0.8")
    if "model" in settings:
        raise UserError("the first model of a ledger cannot be changed: gru requests init makes another ledger")
    with Ledger.open(folder) as ledger, _held(folder):
        ledger.check()
        if died := [request.id for request in ledger.requests() if request.state == "running"]:
            raise UserError(
                f"request {died[0]} is running: finish it (gru requests run), or gru requests retry it first"
            )
        before = ledger.settings()
        now = vars(Limits(**{name: before[name] for name in vars(Limits())} | dict(limits)))
        recipe, unlearning = _check_settings(before["unlearning"] | dict(settings))
        kept: Kept = {}
        if any(name in settings for name in KEPT):
            first = locate(recipe.model)
            created = ledger.last(CREATED)
            if created is None or hash_weights(first) != created["weights_after"]:
                raise UserError(f"{recipe.model} is not the first model of this ledger any more: new rows need it")
            kept = score_kept(recipe, ledger.key, first, console)
        ledger.change({"unlearning": unlearning, **now}, kept)
        return _write_summary(ledger)


def _check_settings(settings: Mapping[str, Any]) -> tuple[Recipe, dict[str, Any]]:
    """The settings as a recipe (its forget set is yet to come), and with absolute paths."""
    for name in ("forget", "output_dir", *FORCED):
        if name in settings:
            raise UserError(f"{name} is not a setting of a ledger: each request brings its own, or the ledger sets it")
    if not settings.get("retain"):
        raise UserError("no retain set given: pass --retain, the rows that must stay")
    found = {name: _absolute(str(value)) if name in _PATHS else value for name, value in settings.items()}
    recipe = make_recipe(found | {"forget": "yet to come"})
    if recipe.stop_when_forgotten and not recipe.retain_model:
        raise UserError("--stop-when-forgotten needs --retain-model, whose forget probability is the mark")
    return recipe, found


def _absolute(source: str) -> str:
    """A source or model with its path made absolute, so that the ledger works from any folder; others as they are."""
    match = re.fullmatch(r"(.+?)((?:\[\d*:\d*\])?)", source)
    path, rows = match.groups() if match else (source, "")
    head, colon, name = path.partition(":")
    for part, rest in ((path, ""), (head, colon + name)):
        if Path(part).expanduser().exists():
            return str(Path(part).expanduser().resolve()) + rest + rows
    return source


# --- requests ------------------------------------------------------------------------------------------------------


def add(
    folder: Path, source: str, *, id: str | None = None, reason: str = "", received: str | None = None
) -> tuple[Request, list[str]]:
    """Append a request; everything about it that can be checked before its run is checked now.

    Args:
        folder: of the ledger.
        source: the rows to forget; the ledger keeps where they are, never the rows.
        id: letters, digits, ``.``, ``_`` and ``-``; by default its number.
        reason: kept in the ledger as it is.
        received: day on which the request came, ``2025-03-31``; by default today.

    Returns:
        The request, and remarks about its rows for whoever added it.

    Raises:
        UserError: no such rows, rows that were all requested before, a bad id or date, rows that do not fit the model.
    """
    with Ledger.open(folder) as ledger:
        if id is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", id):
            raise UserError(f"--id {id!r}: use at most 64 letters, digits, dots, underscores and hyphens")
        day = _day(received)
        records = load_records(source)
        key, known = ledger.key, ledger.marks()
        marks = [mark_of(key, record) for record in records]
        earlier = sum(mark in known for mark in marks)
        if earlier == len(records):
            same = [request.id for request in ledger.requests() if request.data_sha256 == fingerprint(records)]
            named = f" (request {same[0]})" if same else ""
            raise UserError(f"{source}: all {len(records)} rows were requested before{named}, nothing was added")
        settings = ledger.settings()["unlearning"]
        newest, _ = ledger.newest_model()
        prepared = prepare(_recipe(settings, newest, source, folder / VERSIONS_FOLDER / "not yet"))
        remarks = _remarks(prepared, set(marks), key, earlier)
        request = ledger.add(
            id=id,
            date=day,
            reason=reason,
            source=_absolute(source),
            data_sha256=fingerprint(records),
            marks=marks,
            rows=len(records),
        )
    return request, remarks


def _day(text: str | None) -> str:
    if text is None:
        return datetime.now(UTC).date().isoformat()
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise UserError(f"--date {text}: expected a day such as 2025-03-31") from None


def _remarks(prepared: Prepared, marks: Collection[str], key: bytes, earlier: int) -> list[str]:
    rows = len(prepared.sets["forget"])
    remarks = [f"{earlier} of {rows} rows were requested before."] if earlier else []
    for name in ("retain", "held_out"):
        both = sum(mark_of(key, record) in marks for record in prepared.sets.get(name, []))
        if both:
            remarks.append(f"{both} rows are in the {_words(name)} set too: runs leave them out of it from now on.")
    return remarks


def retry(folder: Path, id: str) -> Request:
    """A request that was refused, failed or died while running is pending again; its next run gets a new folder.

    Raises:
        UserError: no such request, it is in another state, or another process runs the ledger.
    """
    with Ledger.open(folder) as ledger, _held(folder):
        return ledger.move("retried", ledger.request(id))


def withdraw(folder: Path, id: str, reason: str) -> Request:
    """A request that is not done will not be: it was taken back, or is settled in another way.

    Raises:
        UserError: no such request, it is done or withdrawn, or another process runs the ledger.
    """
    with Ledger.open(folder) as ledger, _held(folder):
        return ledger.move("withdrawn", ledger.request(id), why=reason)


# --- running -------------------------------------------------------------------------------------------------------


def run(folder: Path, console: Console) -> dict[str, Any]:
    """Process what is running (it died) or pending, in order, and return the summary.

    Args:
        folder: of the ledger.
        console: for progress.

    Raises:
        UserError: another process runs this ledger, or data or model are not what the ledger says; nothing changed.
        BrokenLedger: the ledger does not hold.
        RequestRefused: a result broke a limit; it is not adopted, and later requests stay pending.
        NonFiniteError: training diverged; that request failed, and later ones stay pending.
        Interrupted: Ctrl-C; the same command goes on.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("gru requests run works in one process: start it without torchrun or accelerate launch")
    with Ledger.open(folder) as ledger, _held(folder):
        ledger.check()
        try:
            while request := _next(ledger):
                _process(ledger, request, console)
        finally:
            summary = _write_summary(ledger)
    return summary


def _next(ledger: Ledger) -> Request | None:
    """The request that was running when a process died, else the first pending one."""
    waiting = [request for request in ledger.requests() if request.state in ("running", "pending")]
    return min(waiting, key=lambda request: (request.state == "pending", request.number), default=None)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """This process alone runs the ledger. Requests may be added meanwhile: the database takes them one at a time."""
    try:
        with FileLock(folder / LOCK_FILE, timeout=0):
            yield
    except Timeout:
        raise UserError(f"ledger {folder} is in use by another process") from None


def _process(ledger: Ledger, request: Request, console: Console) -> None:
    """One request from wherever it is to done, refused or failed. Each ``move`` is a point that a death cannot undo."""
    console.print(f"Request {request.id}: {request.rows} rows from {request.source}", soft_wrap=True, highlight=False)
    begun = ledger.last("started", request=request) if request.state == "running" else None
    settings = ledger.settings(begun["settings_sha256"] if begun else None)
    newest, weights = ledger.newest_model()
    output = ledger.folder / VERSIONS_FOLDER / request.version
    recipe = _recipe(settings["unlearning"], newest, request.source, output)
    if begun is not None and (output / SUMMARY_FILE).is_file():
        _check_finished(output, request, weights)
        prepared = None
    else:
        prepared = _prepared(ledger, request, recipe, weights)
        _begin(ledger, request, prepared, begun, console)
    try:
        if prepared is not None:
            unlearn(prepared, console)
        adopted = _whole(output, recipe)
        limits = Limits(settings["utility_floor"], settings["forget_ceiling"])
        metrics, broken = judge(ledger, request, recipe, adopted, limits, console)
    except NonFiniteError as error:
        ledger.move("failed", request, weights_before=weights, why=str(error))
        raise
    ledger.move(
        "refused" if broken else "done",
        request,
        weights_before=weights,
        weights_after=hash_weights(adopted),
        model=adopted.relative_to(ledger.folder).as_posix(),
        metrics=metrics,
        why="; ".join(broken),
    )
    if broken:
        raise RequestRefused(
            f"request {request.id} refused: {'; '.join(broken)}. The model before it stays the newest; set limits or "
            f"settings with gru requests change {ledger.folder}, then gru requests retry {ledger.folder} {request.id}"
        )


def _recipe(settings: Mapping[str, Any], model: str, forget: str, output: Path) -> Recipe:
    given = {"model": model, "forget": forget, "output_dir": str(output)}
    return make_recipe({**settings, **given, **FORCED})


def _prepared(ledger: Ledger, request: Request, recipe: Recipe, weights: str) -> Prepared:
    """Everything checked again before a run, and rows of requests so far, or done, taken out of the other sets.

    Raises:
        UserError: the forget rows or the model are not those of the ledger.
    """
    if fingerprint(load_records(request.source)) != request.data_sha256:
        raise UserError(
            f"request {request.id}: {request.source} is not what was added (its hash differs): restore it, or "
            f"gru requests withdraw {ledger.folder} {request.id} and add it anew"
        )
    prepared = prepare(recipe)
    if prepared.identity["model"] != weights:
        raise UserError(
            f"{recipe.model} is not the model of the ledger (its hash differs): gru requests verify says more"
        )
    marks, key = ledger.marks(request.number), ledger.key
    return _without(prepared, lambda record: mark_of(key, record) in marks)


def _check_finished(output: Path, request: Request, weights: str) -> None:
    """A run that ended just before a death must be the one that the ledger started."""
    summary = read_json(output / SUMMARY_FILE)
    if (summary["model"]["sha256"], summary["data"]["forget"]["sha256"]) != (weights, request.data_sha256):
        raise BrokenLedger(f"{output} holds another run than the one that the ledger started")


def _without(prepared: Prepared, unwanted: Callable[[Record], bool]) -> Prepared:
    """The same run without these rows in the retain and held-out sets."""
    sets = dict(prepared.sets)
    encoder = encoder_for(prepared.tokenizer, prepared.recipe.config)
    for name in KEPT:
        if name in sets:
            sets[name] = [record for record in sets[name] if not unwanted(record)]
            if not sets[name]:
                raise UserError(f"no {_words(name)} row is left: every one is in a request")
    if [len(rows) for rows in sets.values()] == [len(rows) for rows in prepared.sets.values()]:
        return prepared
    examples = {"forget": prepared.examples["forget"]}
    examples |= {name: encoder.encode_all(sets[name], name) for name in KEPT if name in sets}
    suite = own(sets["forget"], sets["retain"]) if prepared.recipe.eval_suite == "own" else prepared.suite
    return replace(prepared, sets=sets, examples=examples, suite=suite)


def _rows(prepared: Prepared) -> dict[str, Any]:
    return {
        name: {"rows": len(rows), "sha256": fingerprint(rows)}
        for name, rows in prepared.sets.items()
        if name != "forget"
    }


def _begin(
    ledger: Ledger, request: Request, prepared: Prepared, begun: Mapping[str, Any] | None, console: Console
) -> None:
    """Note that the run begins, and what the model knows of the forget rows; or check that it may go on.

    Raises:
        UserError: the rows that must stay are not those that the run began with.
    """
    if begun is None:
        knew = _known_before(ledger, prepared, console)
        ledger.move("started", request, weights_before=prepared.identity["model"], rows_used=_rows(prepared), **knew)
    elif begun["rows_used"] != _rows(prepared):
        raise UserError(
            f"request {request.id}: retain or held-out rows changed since it started: restore them, or "
            f"gru requests retry {ledger.folder} {request.id} starts it anew"
        )


def _known_before(ledger: Ledger, prepared: Prepared, console: Console) -> dict[str, float | None]:
    """The forget rows' probability under the model before this request, and under the first one while it is there."""

    def probability(model: Path, title: str) -> float:
        sets = {"forget": prepared.sets["forget"]}
        return fmean(probabilities(prepared.recipe, model, sets, console, title)["forget"])

    before = probability(prepared.model, "before")
    created = ledger.last(CREATED)
    assert created is not None
    if created["weights_after"] == prepared.identity["model"]:
        return {"forget_prob_before": before, "forget_prob_first_model": before}
    folder = _first_model(ledger)
    there = folder is not None and hash_weights(folder) == created["weights_after"]
    first = probability(folder, "first model") if there and folder is not None else None
    return {"forget_prob_before": before, "forget_prob_first_model": first}


def _first_model(ledger: Ledger) -> Path | None:
    """Its folder; None where it is not on disk any more."""
    try:
        return locate(str(ledger.settings()["unlearning"]["model"]))
    except UserError:
        return None


def _whole(output: Path, recipe: Recipe) -> Path:
    """The run's model as whole weights: adapters are merged into a folder of their own."""
    if not (output / MODEL_FOLDER / "adapter_config.json").is_file():
        return output / MODEL_FOLDER
    whole = output / WHOLE_FOLDER
    if not whole.is_dir():
        part = unfinished(whole)
        model = load_model(output / MODEL_FOLDER, dtype=recipe.dtype, trust_remote_code=recipe.trust_remote_code)
        model.save_pretrained(part)
        load_tokenizer(output / MODEL_FOLDER, trust_remote_code=recipe.trust_remote_code).save_pretrained(part)
        finish(whole)
    return whole


def _words(name: str) -> str:
    return {"held_out": "held-out"}.get(name, name)


# --- telling -------------------------------------------------------------------------------------------------------


def verify(folder: Path, head: str | None = None) -> list[str]:
    """Check chain, tables and models on disk; returns what a reader should know although nothing is wrong.

    Raises:
        BrokenLedger: names the first thing that does not hold.
    """
    with Ledger.open(folder) as ledger:
        ledger.check()
        entries = ledger.entries()
        notes = [f"{len(entries)} entries hold; head {ledger.head}"]
        if head is not None:
            after = ledger.check_head(head)
            notes.append(f"the noted hash is that of entry {len(entries) - after}; {after} entries came after it")
        adopted = [entry for entry in entries if entry["event"] in (CREATED, "done")]
        for before, entry in pairwise(adopted):
            if entry["weights_before"] != before["weights_after"]:
                raise BrokenLedger(f"entry {entry['entry']} does not start from the model of entry {before['entry']}")
        for entry in adopted:
            notes += _verify_model(ledger, entry, newest=entry is adopted[-1])
    return notes


def _verify_model(ledger: Ledger, entry: Mapping[str, Any], *, newest: bool) -> list[str]:
    first = entry["event"] == CREATED
    name = "the first model" if first else f"the model of {entry['id']}"
    found = _first_model(ledger) if first else ledger.folder / entry["model"]
    if found is None or not list(found.glob("*.safetensors")):
        if newest:
            raise BrokenLedger(f"entry {entry['entry']}: {name}, the newest, is not on disk")
        return [f"{name} is not on disk any more: not checked"]
    if hash_weights(found) != entry["weights_after"]:
        raise BrokenLedger(f"entry {entry['entry']}: {name} on disk is not the one that was noted (its hash differs)")
    return [f"{name} is as noted in entry {entry['entry']}"]


def _write_summary(ledger: Ledger) -> dict[str, Any]:
    summary = ledger.summary()
    write_json(ledger.folder / SUMMARY_FILE, summary)
    return summary
