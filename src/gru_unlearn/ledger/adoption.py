"""Whether the model that a request left is adopted: what it still knows of every forget set, and what it kept.

The first model is scored once, when the ledger is made: its probabilities stand in the ledger under the rows' marks.
So utility stays one measure over all requests, although rows leave the sets to keep, and the first model may go.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console

from gru_unlearn.data import Record, count_overlap, fingerprint, load_records
from gru_unlearn.errors import NonFiniteError, UserError
from gru_unlearn.ledger.database import Kept, Ledger, Request, mark, newest
from gru_unlearn.ledger.limits import Limits
from gru_unlearn.models.loading import free_memory, load_model, load_tokenizer
from gru_unlearn.reporting.progress import stages
from gru_unlearn.runs.example_log import choose, look
from gru_unlearn.runs.recipe import Recipe
from gru_unlearn.training import encoder_for

KEPT = ("held_out", "retain")
"""The sets that must stay; utility is read off the first one that was given."""


def score_kept(recipe: Recipe, key: bytes, first: Path, console: Console) -> Kept:
    """The first model's probability of the answers to keep, row by row, under the rows' marks.

    Raises:
        UserError: rows in both sets to keep.
    """
    sets = {name: load_records(source) for name in KEPT if (source := getattr(recipe, name))}
    if len(sets) == 2 and (both := count_overlap(*sets.values())):
        raise UserError(f"{both} held-out rows are also in the retain set: take them out of one of the two")
    sets = {name: _spread(records, recipe) for name, records in sets.items()}
    found = probabilities(recipe, first, sets, console, "first model")
    return {
        name: {mark_of(key, record): p for record, p in zip(rows, found[name], strict=True)}
        for name, rows in sets.items()
    }


def _spread(records: Sequence[Record], recipe: Recipe) -> list[Record]:
    limit = recipe.config.eval_max_rows
    return [records[row] for row in choose(len(records), len(records) if limit is None else limit)]


def mark_of(key: bytes, record: Record) -> str:
    """How the ledger knows a row (see :func:`gru_unlearn.ledger.database.mark`)."""
    return mark(key, fingerprint([record]))


def judge(
    ledger: Ledger, request: Request, recipe: Recipe, model: Path, limits: Limits, console: Console
) -> tuple[dict[str, Any], list[str]]:
    """What the new model gives on this forget set, on all former ones and on the rows to keep; and limits it breaks."""
    forget, not_checked = _forget_sets(ledger, request)
    kept = {name: rows for name in KEPT if (rows := _kept_rows(ledger, request, recipe, name))}
    if not kept:
        raise UserError(
            "none of the rows to keep that the first model was scored on is left: gru requests change --retain"
        )
    sets: dict[str, list[Record]] = {f"forget {id}": rows for id, rows in forget.items()}
    sets |= {name: list(rows.values()) for name, rows in kept.items()}
    found = probabilities(recipe, model, sets, console, "after")
    metrics: dict[str, Any] = {"forget_prob": {id: fmean(found[f"forget {id}"]) for id in forget}}
    for name, rows in kept.items():
        first = ledger.kept(name)
        metrics[f"{name}_prob"] = fmean(found[name])
        metrics[f"{name}_rows"] = len(rows)
        metrics[f"{name}_kept"] = metrics[f"{name}_prob"] / fmean(first[mark] for mark in rows)
    metrics["utility"] = next(metrics[f"{name}_kept"] for name in KEPT if name in kept)
    return metrics | {"not_checked": not_checked}, _broken(ledger, metrics, limits)


def _forget_sets(ledger: Ledger, request: Request) -> tuple[dict[str, list[Record]], dict[str, str]]:
    """The rows of this request and of all that are done, by id; and why former ones cannot be read any more."""
    sets, gone = {}, {}
    for one in ledger.requests():
        if one.number != request.number and one.state != "done":
            continue
        try:
            records = load_records(one.source)
        except UserError:
            gone[one.id] = "its data are gone"
            continue
        if fingerprint(records) == one.data_sha256:
            sets[one.id] = records
        else:
            gone[one.id] = "its data were changed"
    if request.id in gone:
        raise UserError(f"request {request.id}: {gone[request.id]} ({request.source}): restore them to judge its run")
    return sets, gone


def _kept_rows(ledger: Ledger, request: Request, recipe: Recipe, name: str) -> dict[str, Record]:
    """Mark → row, of the rows that the first model was scored on and that no request so far, nor a done one, names."""
    source = getattr(recipe, name)
    first, gone, key = ledger.kept(name), ledger.marks(request.number), ledger.key
    rows = {mark_of(key, record): record for record in load_records(source)} if source else {}
    return {mark: record for mark, record in rows.items() if mark in first and mark not in gone}


def _broken(ledger: Ledger, metrics: Mapping[str, Any], limits: Limits) -> list[str]:
    broken = []
    if metrics["utility"] < limits.utility_floor:
        broken.append(f"utility {metrics['utility']:.3f} is below the floor {limits.utility_floor:g}")
    entries = ledger.entries()
    for one in ledger.requests():
        started = newest(entries, "started", request=one)
        if started is not None and one.id in metrics["forget_prob"]:
            first = started["forget_prob_first_model"]
            most = limits.forget_ceiling * (started["forget_prob_before"] if first is None else first)
            if (now := metrics["forget_prob"][one.id]) > most:
                broken.append(f"forget probability {now:.3f} of {one.id} is above the ceiling {most:.3f}")
    return broken


def probabilities(
    recipe: Recipe, model: Path, sets: Mapping[str, Sequence[Record]], console: Console, title: str
) -> dict[str, list[float]]:
    """Each row's answer probability under the model in a folder, by set.

    Raises:
        NonFiniteError: one is not a number.
    """
    tokenizer = load_tokenizer(
        model, pad_token=recipe.pad_token, eos_token=recipe.eos_token, trust_remote_code=recipe.trust_remote_code
    )
    encoder = encoder_for(tokenizer, recipe.config)
    loaded: Any = load_model(
        model,
        dtype=recipe.dtype,
        attn_implementation=recipe.attn_implementation,
        trust_remote_code=recipe.trust_remote_code,
    )
    loaded = loaded.to(recipe.config.device)
    with stages(console, title) as on_progress:
        batch_size = recipe.config.per_device_eval_batch_size
        seen = look(loaded, encoder, sets, batch_size=batch_size, generate=False, on_progress=on_progress)
    del loaded
    free_memory()
    found = {name: [row["probability"] for row in rows] for name, rows in seen.items()}
    if any(p is None for rows in found.values() for p in rows):
        raise NonFiniteError(f"{model}: the probability of an answer is not a finite number")
    return found
