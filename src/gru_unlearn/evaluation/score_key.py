"""The key of a score table: a hash of everything that its scores depend on."""

from collections.abc import Collection, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path

import torch
import transformers

import gru_unlearn
from gru_unlearn.common.files import hash_file, hash_json
from gru_unlearn.data import Encoder
from gru_unlearn.evaluation.rows import Item, Suite

CODE = ("evaluation", "data", "objectives")
"""Packages whose source decides what the scores are."""


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
        weights: hash of the model's folder.
        suite: rows, and what is needed of them.
        encoder: tokenizer, chat template and length limit.
        retain_model: as in :func:`gru_unlearn.evaluation.scoring.score`.
        settings: whatever else changes the scores, such as dtype and device.
    """
    needs = suite.needs(retain_model)
    scored = {need.rpartition(".")[0] for need in needs}
    parts = {
        "weights": weights,
        "rows": hash_json(_sets_as_scored(suite, scored)),
        "needs": sorted(needs),
        "encoder": hash_json(encoding_of(encoder)),
        "settings": dict(settings or {}),
        "code": code_and_versions(),
    }
    return hash_json(parts)


def _sets_as_scored(suite: Suite, scored: Collection[str]) -> object:
    """Set → how its rows are read, and their contents; of the scored sets alone."""
    found = {}
    for name, rows in suite.sets.items():
        if name in scored:
            contents = [_contents(item) for item in rows.items]
            found[name] = [rows.max_new_tokens, rows.cut_at, rows.raw, contents]
    return found


def _contents(item: Item) -> object:
    turns = [[turn.role, turn.content] for turn in item.record.turns]
    return [turns, item.record.text, item.paraphrase, item.wrong]


def device_name() -> str:
    """Of what models are loaded on, which decides the last digits of scores."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def encoding_of(encoder: Encoder) -> object:
    """All that decides which tokens a record becomes."""
    tokenizer = encoder.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = backend.to_str() if backend is not None else sorted(tokenizer.get_vocab().items())
    text_format = {one.name: getattr(encoder.format, one.name) for one in fields(encoder.format)}
    return [
        vocabulary,
        tokenizer.chat_template,
        {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        text_format | {"chat_template_kwargs": dict(encoder.format.chat_template_kwargs)},
        [encoder.max_length, encoder.allow_truncation],
    ]


def code_and_versions(*beside: str) -> list[str]:
    """Of what computes scores and continuations; ``beside``: further packages whose source decides a result."""
    return [_hash_of_code(*beside), gru_unlearn.__version__, torch.__version__, transformers.__version__]


@cache
def _hash_of_code(*beside: str) -> str:
    """Of the packages that decide what scores, and continuations, are, and of others ``beside`` them."""
    root = Path(gru_unlearn.__file__).parent
    files: list[Path] = []
    for package in (*CODE, *beside):
        files += (root / package).glob("*.py")
    return hash_json([[str(file.relative_to(root)), hash_file(file)] for file in sorted(files)])
