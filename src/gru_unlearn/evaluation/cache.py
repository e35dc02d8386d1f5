"""Score tables that are kept, so that later runs need not compute them again; :mod:`score_key` says which is which."""

from importlib import import_module
from pathlib import Path
from typing import Any

from gru_unlearn.common.kept_files import keep_file
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation.old_names import say_renamed
from gru_unlearn.evaluation.table import ScoreTable

KEY = "cache_key"
"""Name of the key in a table's ``settings``."""

MOST_BYTES = 2 * 10**9
"""What the kept tables may take together."""


def find_scores(folder: Path, key: str) -> ScoreTable | None:
    """The table kept in ``folder`` under this key; None where there is none, or its file is broken or another's."""
    path = folder / f"{key}.parquet"
    try:
        table = ScoreTable.load(path)
        path.touch()  # used now: the last one to go
    except (UserError, OSError):
        return None
    return table if table.settings.get(KEY) == key else None


def keep_scores(folder: Path, key: str, table: ScoreTable, most_bytes: int = MOST_BYTES) -> None:
    """Keep a table in ``folder`` under its key; tables unused for longest go while all take more than ``most_bytes``.

    Raises:
        OSError: the folder cannot be written.
    """
    table.settings = {**table.settings, KEY: key}
    keep_file(folder / f"{key}.parquet", table.save, most_bytes)


def __getattr__(name: str) -> Any:
    if name != "hash_weights":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    say_renamed(f"{__name__}.hash_weights", "gru_unlearn.models.weights.hash_weights")
    return import_module("gru_unlearn.models.weights").hash_weights
