"""When a score table may be used again: for the same weights, rows, tokenizer, settings and code."""

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import torch
import transformers

import gru_unlearn
from gru_unlearn.data import Encoder
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation.rows import Item, Suite
from gru_unlearn.evaluation.table import ScoreTable

KEY = "cache_key"
"""Name of the key in a table's ``settings``."""

CODE = ("evaluation", "data", "objectives")
"""Packages whose source decides what the scores are."""


def cache_key(
    model: Path,
    suite: Suite,
    encoder: Encoder,
    *,
    retain_model: bool = False,
    settings: Mapping[str, str] | None = None,
) -> str:
    """SHA-256 over all that a score table depends on.

    Args:
        model: folder with the model's weights and configuration. An adapter's base model is hashed too if it is a
            folder, and otherwise enters by its name.
        suite: rows, and what is needed of them.
        encoder: tokenizer, chat template and length limit.
        retain_model: as in :func:`gru_unlearn.evaluation.scoring.score`.
        settings: whatever else changes the scores, such as dtype and device.

    Raises:
        UserError: no weights in the folder.
    """
    parts = {
        "weights": hash_weights(model),
        "rows": _hash(_rows(suite)),
        "needs": sorted(suite.needs(retain_model)),
        "encoder": _hash(_encoding(encoder)),
        "settings": dict(settings or {}),
        "code": [_code_hash(), gru_unlearn.__version__, torch.__version__, transformers.__version__],
    }
    return _hash(parts)


def cached(folder: Path, key: str, make: Callable[[], ScoreTable]) -> ScoreTable:
    """The table that ``make`` gave for this key earlier, kept in ``folder``, or a new one, which is then kept.

    A file that does not say the key in its metadata, or cannot be read, is made anew.
    """
    path = folder / f"{key}.parquet"
    if path.is_file():
        try:
            table = ScoreTable.load(path)
        except UserError:
            table = ScoreTable([])
        if table.settings.get(KEY) == key:
            return table
    table = make()
    table.settings = {**table.settings, KEY: key}
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    table.save(unfinished)
    unfinished.replace(path)
    return table


def hash_weights(folder: Path) -> str:
    """SHA-256 over the names and contents of a folder's weights and configuration files.

    Raises:
        UserError: no weights in the folder.
    """
    files = sorted(file for file in folder.glob("*") if file.suffix == ".safetensors" or file.name in _CONFIGURATION)
    if not any(file.suffix == ".safetensors" for file in files):
        raise UserError(f"{folder}: no *.safetensors weights")
    parts = [(file.name, _hash_file(file)) for file in files]
    adapter = folder / "adapter_config.json"
    base = Path(json.loads(adapter.read_text())["base_model_name_or_path"] or ".") if adapter.is_file() else folder
    return _hash([*parts, hash_weights(base)] if base != folder and base.is_dir() else parts)


_CONFIGURATION = ("config.json", "generation_config.json", "adapter_config.json")


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _rows(suite: Suite) -> object:
    return {
        name: [rows.max_new_tokens, rows.cut_at, rows.raw, [_contents(item) for item in rows.items]]
        for name, rows in suite.sets.items()
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
    return _hash([[str(file.relative_to(root)), _hash_file(file)] for file in files])
