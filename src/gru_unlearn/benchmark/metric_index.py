"""Every metric of every suite, to look up what it means."""

from gru_unlearn.errors import UserError, nearest
from gru_unlearn.evaluation import Metric, harness, suites
from gru_unlearn.evaluation.matched import rmf_explanations
from gru_unlearn.evaluation.measure import Explanation
from gru_unlearn.evaluation.muse import muse_metrics


def metrics_by_key() -> dict[str, Metric | Explanation]:
    """Every metric of every suite, and RMF, for explaining."""
    explained: tuple[Metric | Explanation, ...] = (
        *muse_metrics(),
        *suites.builtin_metrics(),
        *suites.tofu_metrics(),
        *harness.harness_explanations(),
        *rmf_explanations(),
    )
    return {metric.key: metric for metric in explained}


def explain_metric(key: str) -> str:
    """Definition, range, direction and source of a metric, or of ``all``.

    Raises:
        UserError: there is no such metric.
    """
    metrics = metrics_by_key()
    if key != "all":
        if key not in metrics:
            raise UserError(f"unknown metric {key!r}{nearest(key, metrics)}")
        metrics = {key: metrics[key]}
    return "\n\n".join(
        f"{m.key}\n  {m.definition}\n  range {m.range}; better: {m.better}; source: {m.source}"
        for m in metrics.values()
    )
