"""The numbers of an export: what the run measured, what evaluations measured, and what attacks brought back."""

from collections.abc import Mapping

from gru_unlearn.reporting.measured import marks_apart
from gru_unlearn.results.attack_summary import AttackResult, AttackSummary
from gru_unlearn.results.evaluation_summary import EvaluationSummary
from gru_unlearn.results.export_summary import ExportedAttack, ExportedMetric
from gru_unlearn.results.file_model import Number
from gru_unlearn.results.model_metrics import PLACES, UNMEASURED, Metrics
from gru_unlearn.results.row_examples import Moment
from gru_unlearn.results.row_kinds import FORGET, HELD_OUT, RETAIN
from gru_unlearn.results.run_summary import RunSummary, TruSummary

NO_METRICS = (*PLACES, "alpha", "epoch")
COSTS = ("runtime", "samples_per_second", "steps_per_second")
"""What an evaluation notes beside its metrics: its place in the run, and what it took (the name's end)."""


def metrics_of_run(summary: RunSummary | TruSummary) -> list[ExportedMetric]:
    """Every metric of a run: before, after (in the model that was saved) and in the retain model."""
    before, after, matched = _ends(summary)
    retain, other = marks_apart(summary.known_mark)
    found = []
    for name, value in _measured(after).items():
        metric = ExportedMetric(metric=name, before=before.get(name), after=value, retain_model=None)
        if name == FORGET.probability:
            metric.retain_model = retain
            if other is not None:
                metric.mark = other.value
        found.append(metric)
    for kind in (RETAIN, HELD_OUT):
        kept = matched.get(kind.rmf)
        if kept is not None:
            found.append(ExportedMetric(metric=kind.rmf, before=None, after=kept, retain_model=None))
    return found


def _ends(summary: RunSummary | TruSummary) -> tuple[Metrics, Metrics, Metrics]:
    """What was measured before a run, if it was, and of the model that it saved; and what the run comes to."""
    if isinstance(summary, TruSummary):
        points, chosen = summary.trajectory["tru"], summary.results.tru
        return points[0], next(point for point in points if point.alpha == chosen.alpha), chosen
    step = (summary.best or summary.trajectory[-1]).step
    saved = next(point for point in summary.trajectory if point.step == step)
    return summary.start or UNMEASURED, saved, summary.results


def _measured(point: Metrics) -> dict[str, Number]:
    return {
        name: value
        for name, value in point
        if isinstance(value, Number) and name not in NO_METRICS and not name.endswith(COSTS)
    }


def evaluation_scores(evaluations: Mapping[Moment, EvaluationSummary]) -> list[ExportedMetric]:
    """Evaluations of one suite side by side: every metric that has a value after unlearning."""
    after = evaluations["after"]
    values = {moment: evaluation.metrics for moment, evaluation in evaluations.items()}
    before, retain_model = values.get("before", {}), values.get("retain_model", {})
    found = []
    for name, value in after.metrics.items():
        if value is None:
            continue
        low, high = after.intervals.get(name, (None, None))
        others = {"before": before.get(name), "retain_model": retain_model.get(name)}
        found.append(ExportedMetric(metric=name, after=value, low=low, high=high, **others))
    return found


def attack_results(summary: AttackSummary | None) -> list[ExportedAttack]:
    """What attacks brought back, without what they were made of; of several forms of one, what the strongest did."""
    if summary is None:
        return []
    strongest: dict[tuple[str, str], AttackResult] = {}
    for attack in sorted(summary.attacks, key=lambda attack: -attack.strength):
        strongest.setdefault((attack.kind, attack.measure), attack)
    return [ExportedAttack.model_validate(attack, from_attributes=True) for attack in strongest.values()]
