"""Every metric of every suite, and what is measured along a run."""

from gru_unlearn.common.explanation import Explanation
from gru_unlearn.evaluation import Metric, harness, suites
from gru_unlearn.evaluation.lume import lume_metrics
from gru_unlearn.evaluation.matched import rmf_explanations
from gru_unlearn.evaluation.muse import muse_metrics
from gru_unlearn.evaluation.rwku import rwku_metrics

FORGET_TARGET = Explanation(
    key="forget_target",
    definition="f*: the retain model's mean probability of the forget answers, down to which forgetting should go",
    range="0 to 1",
    better="",
    source="this package",
)


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
