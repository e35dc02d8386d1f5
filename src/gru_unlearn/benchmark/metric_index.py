"""Every metric of every suite, and what is measured along a run, to look up by any of the names it goes by."""

import re
from collections.abc import Mapping

from gru_unlearn.errors import UserError, nearest
from gru_unlearn.evaluation import Metric, harness, suites
from gru_unlearn.evaluation.lume import lume_metrics
from gru_unlearn.evaluation.matched import rmf_explanations
from gru_unlearn.evaluation.measure import Explanation
from gru_unlearn.evaluation.muse import muse_metrics
from gru_unlearn.evaluation.rwku import rwku_metrics
from gru_unlearn.results.row_kinds import ROW_KINDS

FORGET_TARGET = Explanation(
    key="forget_target",
    definition="f*: the retain model's mean probability of the forget answers, down to which forgetting should go",
    range="0 to 1",
    better="",
    source="this package",
)

FURTHER_NAMES = {
    "f": "forget_target",
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
    "word for word": "forget_exact_answers",
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


def metrics_by_key() -> dict[str, Metric | Explanation]:
    """Every metric of every suite, RMF and f*, for explaining."""
    explained: tuple[Metric | Explanation, ...] = (
        *muse_metrics(),
        *rwku_metrics(),
        *lume_metrics(),
        *suites.builtin_metrics(),
        *suites.tofu_metrics(),
        *harness.harness_explanations(),
        *rmf_explanations(),
        FORGET_TARGET,
    )
    return {metric.key: metric for metric in explained}


def explain_metric(name: str, metrics: Mapping[str, Metric | Explanation] | None = None) -> str:
    """Definition, range, direction and source of a metric, by its key or another name, or of ``all``.

    Args:
        name: as it stands in a table, a report, a file or a paper.
        metrics: those that there are; by default :func:`metrics_by_key`.

    Raises:
        UserError: there is no such metric.
    """
    metrics = metrics or metrics_by_key()
    keys = list(metrics) if name == "all" else _keys_named(name, metrics)
    return "\n\n".join(_explained(metrics[key]) for key in keys)


def _explained(metric: Metric | Explanation) -> str:
    better = metric.better or "–"
    return f"{metric.key}\n  {metric.definition}\n  range {metric.range}; better: {better}; source: {metric.source}"


def _keys_named(name: str, metrics: Mapping[str, Metric | Explanation]) -> list[str]:
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
