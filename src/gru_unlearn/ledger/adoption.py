"""Whether the model that a request left is adopted: what it still knows of every forget set, and what it kept.

The first model is scored once, when the ledger is made: its probabilities stand in the ledger under the rows' hashes.
So utility stays one measure over all requests, although rows leave the sets to keep, and the first model may go.
"""

import hashlib
import hmac
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from rich.console import Console

from gru_unlearn.common.sequences import evenly_spread
from gru_unlearn.data import Record, canonical, count_overlap, fingerprint, load_records
from gru_unlearn.errors import NonFiniteError, UserError
from gru_unlearn.ledger.database import Baseline, Ledger
from gru_unlearn.models.loading import free_memory
from gru_unlearn.reporting.progress import stages
from gru_unlearn.results.ledger_summary import DeletionRequest, Judgement, LedgerSettings
from gru_unlearn.results.row_kinds import KEPT, RowKind
from gru_unlearn.results.verdict import Said
from gru_unlearn.runs.recipe import Recipe
from gru_unlearn.runs.recipe_manner import recipe_settings
from gru_unlearn.runs.seen_rows import said_by, see_rows
from gru_unlearn.training.word_for_word import MOST_ASKED


def hash_row(key: bytes, record: Record) -> str:
    """How a ledger knows a row: HMAC-SHA256 of its fingerprint, to be matched only with the ledger at hand."""
    return hmac.new(key, fingerprint([record]).encode(), hashlib.sha256).hexdigest()


def hashes_of(key: bytes, record: Record) -> set[str]:
    """By which a ledger knows a row that is to be forgotten: its own hash, and that of what it says, so that the row is
    found among those to keep even if blanks, line ends or accents are written in another way there."""
    return {hash_row(key, record), hash_row(key, canonical(record))}


def score_baseline(recipe: Recipe, key: bytes, first: Path, console: Console) -> Baseline:
    """The first model's probability of the answers to keep, row by row, under the rows' hashes.

    Raises:
        UserError: rows in both sets to keep.
    """
    sources = {kind.key: getattr(recipe, kind.key) for kind in KEPT}
    sets = {name: load_records(source) for name, source in sources.items() if source}
    if len(sets) == len(KEPT):
        both = count_overlap(*sets.values())
        if both:
            raise UserError(f"{both} held-out rows are also in the retain set: take them out of one of the two")
    sets = {name: evenly_spread(records, recipe.config.eval_max_rows) for name, records in sets.items()}
    baseline = {}
    for name, found in probabilities(recipe, first, sets, console, "first model").items():
        hashes = [hash_row(key, record) for record in sets[name]]
        baseline[name] = dict(zip(hashes, found, strict=True))
    return baseline


def judge(
    ledger: Ledger, request: DeletionRequest, recipe: Recipe, model: Path, limits: LedgerSettings, console: Console
) -> tuple[Judgement, list[str]]:
    """What the new model gives on this forget set, on all former ones and on the rows to keep; and limits it breaks."""
    forget, not_checked = _forget_sets(ledger.requests("done", "running"))
    if request.id in not_checked:
        raise UserError(
            f"request {request.id}: {not_checked[request.id]} ({request.source}): restore them to judge its run"
        )
    named = ledger.named_rows(request.number)
    keep = {kind: rows for kind in KEPT if (rows := _rows_to_keep(ledger, kind, recipe, named))}
    if not keep:
        raise UserError(
            "none of the rows to keep that the first model was scored on is left: gru requests change --retain"
        )

    sets = {f"forget {id}": rows for id, rows in forget.items()}
    sets |= {kind.key: list(rows.values()) for kind, rows in keep.items()}
    looked = look(recipe, model, sets, console, "after", ask=f"forget {request.id}")
    found = {name: fmean(values) for name, values in looked.probabilities.items()}
    numbers: dict[str, float] = {}
    for kind, rows in keep.items():
        first = ledger.baseline(kind.key)
        kept = found[kind.key] / fmean(first[row_hash] for row_hash in rows)
        numbers |= {kind.probability: found[kind.key], f"{kind.key}_rows": len(rows), f"{kind.key}_kept": kept}
        numbers.setdefault("utility", kept)
    forget_prob = {id: found[f"forget {id}"] for id in forget}
    judgement = Judgement.model_validate({"forget_prob": forget_prob, **numbers, "not_checked": not_checked})
    if looked.said is not None:
        judgement.said = looked.said
    return judgement, _broken(ledger, judgement, limits)


def _forget_sets(requests: Sequence[DeletionRequest]) -> tuple[dict[str, list[Record]], dict[str, str]]:
    """The rows of each request by its id; and why they cannot be read any more."""
    sets, gone = {}, {}
    for request in requests:
        try:
            records = load_records(request.source)
        except UserError:
            gone[request.id] = "its data are gone"
            continue
        if fingerprint(records) == request.data_sha256:
            sets[request.id] = records
        else:
            gone[request.id] = "its data were changed"
    return sets, gone


def _rows_to_keep(ledger: Ledger, kind: RowKind, recipe: Recipe, named: Collection[str]) -> dict[str, Record]:
    """Hash → row, of the rows that the first model was scored on and that no request names."""
    source = getattr(recipe, kind.key)
    if not source:
        return {}
    key, first = ledger.key, ledger.baseline(kind.key)
    rows = {hash_row(key, record): record for record in load_records(source)}
    left = {row_hash: record for row_hash, record in rows.items() if hashes_of(key, record).isdisjoint(named)}
    return {row_hash: record for row_hash, record in left.items() if row_hash in first}


def _broken(ledger: Ledger, judgement: Judgement, limits: LedgerSettings) -> list[str]:
    """Each limit that the result breaks, in words."""
    broken = []
    if judgement.utility < limits.utility_floor:
        broken.append(f"utility {judgement.utility:.3f} is below the floor {limits.utility_floor:g}")
    started = {entry.id: entry for entry in ledger.entries() if entry.event == "started"}
    for id, now in judgement.forget_prob.items():
        before = started[id].forget_prob_first_model
        if before is None:
            before = started[id].forget_prob_before or 0.0
        most = limits.forget_ceiling * before
        if now > most:
            broken.append(f"forget probability {now:.3f} of {id} is above the ceiling {most:.3f}")
    return broken


class Looked(NamedTuple):
    """What a model makes of rows, in numbers alone."""

    probabilities: dict[str, list[float]]
    """set → each row's answer probability"""
    said: Said | None
    """to the set that was asked"""


def probabilities(
    recipe: Recipe, model: Path, sets: Mapping[str, Sequence[Record]], console: Console, title: str
) -> dict[str, list[float]]:
    """As :func:`look`, and nothing is asked."""
    return look(recipe, model, sets, console, title).probabilities


def look(
    recipe: Recipe, model: Path, sets: Mapping[str, Sequence[Record]], console: Console, title: str, *, ask: str = ""
) -> Looked:
    """Each row's answer probability under the model in a folder, by set; and what it answers to some rows of one set.

    Raises:
        NonFiniteError: a probability is not a number.
    """
    settings = recipe_settings(recipe, model)
    encoder, loaded = settings.encoder(model), settings.model(model).to(recipe.config.device)
    batch_size = recipe.config.per_device_eval_batch_size
    with stages(console, title) as on_progress:
        seen = see_rows(loaded, encoder, sets, batch_size=batch_size, generate=False, on_progress=on_progress)
    asked = evenly_spread(sets.get(ask, []), MOST_ASKED)  # compared word for word; their texts are not kept
    said = None
    if asked:
        said = said_by(see_rows(loaded, encoder, {ask: asked}, batch_size=batch_size, generate=True)[ask])
    del loaded
    free_memory()
    found: dict[str, list[float]] = {}
    for name, rows in seen.items():
        values = [row.seen.probability for row in rows]
        found[name] = [value for value in values if value is not None]
        if len(found[name]) < len(rows):
            raise NonFiniteError(f"{model}: the probability of an answer is not a finite number")
    return Looked(found, said)
