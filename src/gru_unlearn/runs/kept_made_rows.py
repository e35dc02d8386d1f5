"""Rows that a model made are made once: the cache holds them under a hash of all that they depend on."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from gru_unlearn.common.files import default_cache, hash_file, hash_json, made_once
from gru_unlearn.common.notices import tell
from gru_unlearn.data import Record, fingerprint, load_records
from gru_unlearn.data.written_rows import write_rows
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation.score_key import code_and_versions, encoding_of
from gru_unlearn.models.subject import Subject
from gru_unlearn.reporting.progress import stages
from gru_unlearn.runs.made_rows import MADE, make_rows
from gru_unlearn.runs.model_at_hand import at_hand
from gru_unlearn.runs.recipe import Recipe

ROWS_FILE = "rows.jsonl"
LEAST = 16
"""Fewer rows than these stand for nothing."""
CODE = ("made_rows.py", "retain_prompts.py", "everyday_prompts.txt")
"""Files beside this one that decide what is made."""


def place_of_rows(recipe: Recipe, model: Subject, forget: Sequence[Record]) -> Path:
    """Where the cache has, or will have, the rows that a recipe's model makes."""
    here = Path(__file__).parent
    parts = [
        model.sha256,
        encoding_of(model.encoder),
        fingerprint(forget),
        [recipe.made_rows, str(recipe.dtype), recipe.load_in_4bit],
        [*code_and_versions(), *(hash_file(here / name) for name in CODE)],
    ]
    return default_cache() / f"made-rows-{hash_json(parts)[:16]}"


def made_rows_of(recipe: Recipe, model: Subject, forget: Sequence[Record]) -> list[Record]:
    """The rows that a recipe's model makes to stand for what must stay: found in the cache, or made now.

    Raises:
        UserError: the model cannot be whole here, or says too little of use.
    """
    if recipe.config.fsdp:
        raise UserError(f"rows are made by a model that is whole on one device, and fsdp shards it: {OTHER_WAYS}")
    place = place_of_rows(recipe, model, forget)
    found_again = place.is_dir()
    made_once(place, lambda part: _make(recipe, model, forget, part), "the rows that the model makes")
    records = load_records(str(place / ROWS_FILE))
    tell(_told(records, place, found_again=found_again))
    return records


OTHER_WAYS = (
    "pass --retain (rows that must stay) or --train-rows (what the model was trained on); gru tru needs neither"
)


def _make(recipe: Recipe, model: Subject, forget: Sequence[Record], folder: Path) -> None:
    size = recipe.config.per_device_eval_batch_size
    with at_hand(recipe, model) as loaded, stages(Console(), "the model makes rows to keep") as on_made:
        records = make_rows(loaded, model.encoder, forget, recipe.made_rows, batch_size=size, on_made=on_made)
    if len(records) < LEAST:
        raise UserError(
            f"the model's own answers make {len(records)} rows of use to keep, and {LEAST} are the least: {OTHER_WAYS}"
        )
    folder.chmod(0o700)  # what a model says may be private
    write_rows(folder / ROWS_FILE, records)


def _told(records: Sequence[Record], place: Path, *, found_again: bool) -> str:
    kinds = [str(record.row.get(MADE)) for record in records]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    how = "found again" if found_again else "made now, kept for the next run"
    return (
        f"no retain rows were given: {len(records)} made by the model itself stand for what must stay ({counts}; "
        f"{how} in {place})"
    )
