"""Score once, measure many: one pass over a model fills a score table, and every metric is a function of it.

Reading order: :mod:`table` (the scores), :mod:`measure` (what a metric is), :mod:`metrics` and :mod:`attacks` (the
metrics), :mod:`rows`, :mod:`suites`, :mod:`muse`, :mod:`rwku` and :mod:`lume` (which rows, which metrics),
:mod:`tasks`, :mod:`tree`, :mod:`answers`, :mod:`generation`, :mod:`gradnorm` and :mod:`scoring` (the pass over the
model, and all of it in one call), :mod:`score_key` and :mod:`cache` (when scores may be used again, and where they are
kept), :mod:`matched` and :mod:`curves` (numbers about runs), :mod:`harness` (WMDP and MMLU), :mod:`quantization`
(weights rounded to few bits).

Tables and metrics do without torch; what runs a model is imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gru_unlearn.evaluation.measure import Evaluation, Measured, Metric, measure
from gru_unlearn.evaluation.table import Entry, Missing, ScoreTable, Use

if TYPE_CHECKING:
    from gru_unlearn.evaluation.rows import Item, RowSet, Suite
    from gru_unlearn.evaluation.scoring import evaluate, score

_NEEDS_TORCH = {"evaluate": "scoring", "score": "scoring", "Item": "rows", "RowSet": "rows", "Suite": "rows"}

__all__ = [
    "Entry",
    "Evaluation",
    "Item",
    "Measured",
    "Metric",
    "Missing",
    "RowSet",
    "ScoreTable",
    "Suite",
    "Use",
    "evaluate",
    "measure",
    "score",
]


def __getattr__(name: str) -> Any:
    if name not in _NEEDS_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_NEEDS_TORCH[name]}"), name)
