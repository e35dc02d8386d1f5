"""Every metric, and every word of our tables and verdicts, to look up by any of the names it goes by.

``known_metrics.json`` is written by ``tools/known_metrics.py`` from the metrics themselves, so that nothing heavy is
needed to explain one.
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from gru_unlearn.benchmark.table_words import TABLE_WORDS
from gru_unlearn.common.explanation import Explanation
from gru_unlearn.errors import UserError, nearest
from gru_unlearn.results.row_kinds import ROW_KINDS

FILE = Path(__file__).with_name("known_metrics.json")

FURTHER_NAMES = {
    "f": "forget_target",
    "% brought back": "brought back",
    "recovered": "brought back",
    "recovered share": "brought back",
    "truth": "word for word",
    "exact": "word for word",
    "retain": "retain model",
    "rows that stay": "kept",
    "minus none": "minus",
    "cost_rows": "row passes",
    "cost_steps": "steps",
    "cost_seconds": "seconds",
    "RMF retain": "rmf",
    "retention at matched forgetting": "rmf",
    "the same on held-out rows": "rmf_held_out",
    "RMF at f/2": "rmf",
    "RMF at f/4": "rmf",
    "held-out at f/2": "rmf_held_out",
    "held-out at f/4": "rmf_held_out",
    "conflicts": "conflict_rate",
    "steps with a conflict": "conflict_rate",
    "min-k++": "mia_min_k_plus_plus",
    "FQ": "forget_quality",
    "MU": "model_utility",
    "ES": "extraction_strength",
    "EM": "exact_memorization",
    **{f"{kind.label} probability": kind.probability for kind in ROW_KINDS},
    **{f"{kind.label} rows": kind.probability for kind in ROW_KINDS},
    **{f"{kind.label} exact": f"{kind.key}_exact_answers" for kind in ROW_KINDS},
}
"""What tables, reports and papers call a metric → its key."""

_FEW = 8
"""Metrics that may be shown where a word is part of all their names."""


@cache
def known_metrics() -> dict[str, Explanation]:
    """Name, as in files → what it means."""
    written = json.loads(FILE.read_text(encoding="utf-8"))
    return {name: Explanation(**about) for name, about in written.items()}


def explain_metric(name: str) -> str:
    """Definition, range, direction and source of a metric or a word, by its key or another name, or of ``all``.

    Args:
        name: as it stands in a table, a verdict, a report, a file or a paper.

    Raises:
        UserError: there is nothing of this name.
    """
    known = {**TABLE_WORDS, **known_metrics()}
    keys = list(known) if name == "all" else _keys_named(name, known)
    return "\n\n".join(dict.fromkeys(_explained(known[key]) for key in keys))


def _explained(about: Explanation) -> str:
    range, better = about.range or "–", about.better or "–"
    return f"{about.key}\n  {about.definition}\n  range {range}; better: {better}; source: {about.source}"


def _keys_named(name: str, metrics: Mapping[str, Explanation]) -> list[str]:
    """The metric of this name; else the few whose keys have all its words."""
    words = _words(name)
    names = {_words(other): key for other, key in FURTHER_NAMES.items() if key in metrics}
    names |= {_words(key): key for key in metrics}
    if words in names:
        return [names[words]]
    having = [key for key in metrics if words and words <= _words(key)]
    if 0 < len(having) <= _FEW:
        return having
    choices = [*metrics, *FURTHER_NAMES]
    close = nearest(name, choices)
    if "did you mean" not in close:
        close = "; `gru evaluate --explain all` shows all"
    raise UserError(f"unknown metric {name!r}{close}")


def _words(name: str) -> frozenset[str]:
    """``"RMF held-out"`` and ``"rmf_held_out"`` have the same words; ``f*`` is f."""
    return frozenset(re.findall(r"[^\W_]+|\+\+", name.casefold()))
