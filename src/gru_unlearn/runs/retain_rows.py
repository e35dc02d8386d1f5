"""A run's rows: those that were given, and those that a run finds by itself.

Retain rows come from a source, from the training rows without the forget rows, or from the model itself; of a large
pool some are chosen; and where a run is on its own, some are set aside as held-out rows. What is not simply what a
source holds is written beside the run, and an interrupted run goes on with that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import JsonValue

from gru_unlearn.common.notices import tell
from gru_unlearn.common.sequences import evenly_spread
from gru_unlearn.data import Record, canonical, fingerprint, load_records
from gru_unlearn.data.overlap import overlapping
from gru_unlearn.data.written_rows import write_rows
from gru_unlearn.errors import UserError
from gru_unlearn.models.subject import Subject
from gru_unlearn.results.provenance import HowFound
from gru_unlearn.results.row_kinds import FORGET, HELD_OUT, RETAIN, ROW_KINDS
from gru_unlearn.results.run_folder import RunFolder
from gru_unlearn.runs.kept_made_rows import made_rows_of, place_of_rows
from gru_unlearn.runs.near_choice import choose_retain_rows
from gru_unlearn.runs.recipe import Recipe
from gru_unlearn.runs.set_aside import part_off
from gru_unlearn.runs.setting_names import MADE

Sets = dict[str, list[Record]]

MOST_TRAIN_ROWS = 20_000
"""Of training rows so many are taken, evenly spread: more than a run draws."""


@dataclass(frozen=True, slots=True)
class RunRows:
    """Rows by the keys of their kinds, and which of them the run found by itself."""

    sets: Sets
    found: Mapping[str, HowFound] = field(default_factory=dict)
    """key → how, of sets that are not what a source holds"""
    pool: Sequence[Record] = ()
    """the retain rows that were given, where those of the run are a part of them"""

    @property
    def identity(self) -> dict[str, JsonValue]:
        """What a run's identity says of its rows."""
        known: dict[str, JsonValue] = {name: fingerprint(records) for name, records in self.sets.items()}
        if self.pool:
            known["retain_pool"] = fingerprint(self.pool)
        return known


# --- before any model ------------------------------------------------------------------------------------------------


def read_rows_of(recipe: Recipe) -> Sets:
    """The rows that a recipe names, read.

    Raises:
        UserError: they cannot be read, or retain rows are named twice.
    """
    if recipe.train_rows is not None and recipe.retain is not None:
        raise UserError("--train-rows and --retain both say what must stay: leave one of them out")
    sources = {kind.key: getattr(recipe, kind.key) for kind in ROW_KINDS}
    named = {name: source for name, source in sources.items() if source is not None and source != MADE}
    sets = {name: load_records(source) for name, source in named.items()}
    if recipe.train_rows is not None:
        sets[RETAIN.key] = _without_forget_rows(recipe.train_rows, sets)
    return {kind.key: sets[kind.key] for kind in ROW_KINDS if kind.key in sets}


def _without_forget_rows(source: str, sets: Sets) -> list[Record]:
    """Training rows that are neither forget rows nor held out."""
    rows, forget, held_out = load_records(source), sets[FORGET.key], sets.get(HELD_OUT.key, [])
    left = _apart_from([*forget, *held_out], rows)
    if not left:
        raise UserError(f"--train-rows {source}: all {len(rows)} rows are forget or held-out rows: nothing must stay")
    if not overlapping(forget, rows):
        tell(f"no forget row stands in --train-rows {source}: are they what the model was trained on?")
    sample = evenly_spread(left, MOST_TRAIN_ROWS)
    tell(f"{len(sample)} of {len(rows)} training rows stand for what must stay, none of them a forget or held-out row")
    return sample


def _apart_from(others: Sequence[Record], rows: Sequence[Record]) -> list[Record]:
    """The rows that neither say the same as one of the others nor ask its question."""
    known = set(map(canonical, others))
    questions = {record.prompt for record in known if record.turns}
    return [row for row in rows if canonical(row) not in known and canonical(row).prompt not in questions]


def makes_rows(recipe: Recipe) -> bool:
    """Whether the model is to make its retain rows: asked for by a word, or by itself where nothing else is there."""
    if recipe.retain is not None:
        return recipe.retain == MADE
    return recipe.train_rows is None and recipe.config.on_its_own and recipe.config.needs_retain_set


def chooses_rows(recipe: Recipe) -> bool:
    """Whether there are retain rows of a source, some of which may be chosen."""
    return recipe.train_rows is not None or recipe.retain not in (None, MADE)


def sets_aside(recipe: Recipe) -> bool:
    """Whether held-out rows are set aside: on its own, where the person says nothing of them."""
    config = recipe.config
    return config.on_its_own and config.needs_retain_set and "held_out" not in recipe.settings


def rows_to_come(recipe: Recipe, sets: Sets) -> Sets:
    """The rows that were read, and one for each further set that will be there when the run begins."""
    coming: Sets = {}
    if makes_rows(recipe):
        coming[RETAIN.key] = sets[FORGET.key][:1]
    if sets_aside(recipe) and (makes_rows(recipe) or part_off(sets.get(RETAIN.key, [])).held_out):
        coming[HELD_OUT.key] = sets[FORGET.key][:1]
    return coming | sets


# --- with the model --------------------------------------------------------------------------------------------------


def settle_rows(recipe: Recipe, sets: Sets, model: Subject, begun_in: RunFolder | None, *, rehearsed: bool) -> RunRows:
    """The rows that a run has: made, parted and chosen as far as its recipe leaves that to it.

    Args:
        recipe: the settings.
        sets: from :func:`read_rows_of`.
        model: the target.
        begun_in: folder in which a run may have been left unfinished, which goes on with the rows it began with.
        rehearsed: no model is loaded: rows that the cache does not hold are not made, and none are chosen.

    Raises:
        UserError: the model makes no rows of use.
    """
    if makes_rows(recipe):
        return _made(recipe, sets, model, begun_in, rehearsed=rehearsed)
    if RETAIN.key not in sets:
        return RunRows(sets)
    pool = sets[RETAIN.key]
    begun = _begun_with(begun_in, "part")
    if begun is not None and begun.pool_sha256 == fingerprint(pool):
        return RunRows({**sets, **begun.sets}, begun.found, pool)
    rows = RunRows(sets)
    if recipe.train_rows is not None:
        rows = RunRows(sets, {RETAIN.key: "part"})
    rows = _with_witnesses(recipe, rows)
    if not rehearsed:
        rows = _with_choice(recipe, rows, model)
    return replace(rows, pool=pool) if rows.found else rows


def _made(recipe: Recipe, sets: Sets, model: Subject, begun_in: RunFolder | None, *, rehearsed: bool) -> RunRows:
    begun = _begun_with(begun_in, "made")
    if begun is not None:
        return RunRows({**sets, **begun.sets}, begun.found)
    if rehearsed and not place_of_rows(recipe, model, sets[FORGET.key]).is_dir():
        return RunRows(sets)
    made = _apart_from(sets.get(HELD_OUT.key, []), made_rows_of(recipe, model, sets[FORGET.key]))
    return _with_witnesses(recipe, RunRows(_in_order(sets | {RETAIN.key: made}), {RETAIN.key: "made"}))


def _with_witnesses(recipe: Recipe, rows: RunRows) -> RunRows:
    """Some retain rows set aside as held-out rows, where the run is to do so and there are enough."""
    if not sets_aside(recipe):
        return rows
    parted = part_off(rows.sets[RETAIN.key])
    if not parted.held_out:
        return rows
    tell(
        f"{len(parted.held_out)} of {len(rows.sets[RETAIN.key])} retain rows are set aside as held-out rows: no step "
        "sees them, and they tell whether the rest is kept (--held-out names others)"
    )
    sets = rows.sets | {RETAIN.key: parted.retain, HELD_OUT.key: parted.held_out}
    how: HowFound = rows.found.get(RETAIN.key, "part")
    return RunRows(_in_order(sets), {RETAIN.key: how, HELD_OUT.key: "set aside"})


def _with_choice(recipe: Recipe, rows: RunRows, model: Subject) -> RunRows:
    """The retain rows that matter, of a large pool."""
    chosen = choose_retain_rows(recipe, model, rows.sets[FORGET.key], rows.sets[RETAIN.key])
    if len(chosen) == len(rows.sets[RETAIN.key]):
        return rows
    return RunRows(rows.sets | {RETAIN.key: chosen}, {**rows.found, RETAIN.key: "part"})


def _in_order(sets: Sets) -> Sets:
    return {kind.key: sets[kind.key] for kind in ROW_KINDS if kind.key in sets}


# --- beside the run --------------------------------------------------------------------------------------------------


def found_file(folder: RunFolder, name: str, how: HowFound) -> Path:
    """Where a set that the run found by itself stands: ``retain_made.jsonl``."""
    return folder.path / f"{name}_{how.replace(' ', '_')}.jsonl"


def write_found_rows(rows: RunRows, folder: RunFolder) -> None:
    """What the run found by itself, for people, for attacks on the run, and for going on with it."""
    for name, how in reversed(list(rows.found.items())):  # the retain rows last: where they are, all are
        write_rows(found_file(folder, name, how), rows.sets[name])


@dataclass(frozen=True, slots=True)
class _Begun:
    """Rows that an unfinished run began with."""

    sets: Sets
    found: dict[str, HowFound]
    pool_sha256: str | None


def _begun_with(folder: RunFolder | None, how: HowFound) -> _Begun | None:
    """The rows beside an unfinished run whose retain rows were found in this way; None where they are not whole."""
    started = folder and folder.started_with()
    if folder is None or not started:
        return None
    ways: dict[str, HowFound] = {RETAIN.key: how, HELD_OUT.key: "set aside"}
    sets: Sets = {}
    for name, way in ways.items():
        file = found_file(folder, name, way)
        if file.is_file():
            sets[name] = load_records(str(file))
    if RETAIN.key not in sets or any(fingerprint(rows) != started.get(name) for name, rows in sets.items()):
        return None
    pool = started.get("retain_pool")
    return _Begun(sets, {name: ways[name] for name in sets}, str(pool) if pool else None)
