"""When a score table may be used again: for the same weights, rows, tokenizer, settings and code."""

import json
import os
import time
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path

import torch
import transformers

import gru_unlearn
from gru_unlearn.common.files import hash_file, hash_json
from gru_unlearn.data import Encoder
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation.rows import Item, Suite
from gru_unlearn.evaluation.table import ScoreTable

KEY = "cache_key"
"""Name of the key in a table's ``settings``."""

CODE = ("evaluation", "data", "objectives")
"""Packages whose source decides what the scores are."""

A_DAY = 24 * 60 * 60

MOST_BYTES = 2 * 10**9
"""What the kept tables may take together."""


def cache_key(
    weights: str,
    suite: Suite,
    encoder: Encoder,
    *,
    retain_model: bool = False,
    settings: Mapping[str, str] | None = None,
) -> str:
    """SHA-256 over all that a score table depends on. The batch size does not: it changes rounding alone.

    Args:
        weights: of the model's folder, by :func:`hash_weights`.
        suite: rows, and what is needed of them.
        encoder: tokenizer, chat template and length limit.
        retain_model: as in :func:`gru_unlearn.evaluation.scoring.score`.
        settings: whatever else changes the scores, such as dtype and device.
    """
    needs = suite.needs(retain_model)
    parts = {
        "weights": weights,
        "rows": hash_json(_rows(suite, {need.rpartition(".")[0] for need in needs})),
        "needs": sorted(needs),
        "encoder": hash_json(_encoding(encoder)),
        "settings": dict(settings or {}),
        "code": [_code_hash(), gru_unlearn.__version__, torch.__version__, transformers.__version__],
    }
    return hash_json(parts)


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
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # tables hold the rows' texts
    unfinished = folder / f"{key}.{os.getpid()}.part"
    try:
        table.save(unfinished)
        unfinished.replace(folder / f"{key}.parquet")
    finally:
        unfinished.unlink(missing_ok=True)
    for part in folder.glob("*.part"):  # of processes that were killed
        if time.time() - part.stat().st_mtime > A_DAY:
            part.unlink(missing_ok=True)
    total = 0
    for file in sorted(folder.glob("*.parquet"), key=_last_used, reverse=True):
        total += file.stat().st_size
        if total > most_bytes and file.stem != key:
            file.unlink(missing_ok=True)


def _last_used(file: Path) -> int:
    return file.stat().st_mtime_ns


def hash_weights(folder: Path) -> str:
    """SHA-256 over the names and contents of a folder's weights, configuration and code files.

    An adapter's base model is hashed too if it is a folder, and otherwise enters by its name.

    Raises:
        UserError: no weights in the folder.
    """
    files = sorted(
        file for file in folder.glob("*") if file.suffix in (".safetensors", ".py") or file.name in _CONFIGURATION
    )
    if not any(file.suffix == ".safetensors" for file in files):
        raise UserError(f"{folder}: no *.safetensors weights")
    parts = [(file.name, hash_file(file)) for file in files]
    adapter = folder / "adapter_config.json"
    base = Path(json.loads(adapter.read_text())["base_model_name_or_path"] or ".") if adapter.is_file() else folder
    return hash_json([*parts, hash_weights(base)] if base != folder and base.is_dir() else parts)


_CONFIGURATION = ("config.json", "generation_config.json", "adapter_config.json")


def _rows(suite: Suite, scored: Collection[str]) -> object:
    return {
        name: [rows.max_new_tokens, rows.cut_at, rows.raw, [_contents(item) for item in rows.items]]
        for name, rows in suite.sets.items()
        if name in scored
    }


def _contents(item: Item) -> object:
    turns = [[turn.role, turn.content] for turn in item.record.turns]
    return [turns, item.record.text, item.paraphrase, item.wrong]


def _encoding(encoder: Encoder) -> object:
    tokenizer = encoder.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = backend.to_str() if backend is not None else sorted(tokenizer.get_vocab().items())
    text = encoder.format
    return [
        vocabulary,
        tokenizer.chat_template,
        {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        [text.question_tag, text.answer_tag, dict(text.chat_template_kwargs)],
        [encoder.max_length, encoder.allow_truncation],
    ]


@cache
def _code_hash() -> str:
    root = Path(gru_unlearn.__file__).parent
    files = sorted(file for package in CODE for file in (root / package).glob("*.py"))
    return hash_json([[str(file.relative_to(root)), hash_file(file)] for file in files])
