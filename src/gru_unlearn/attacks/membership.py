"""Membership inference: can forget rows be told from rows that no model saw?"""

from collections.abc import Callable
from functools import cache, partial

from gru_unlearn.attacks.battery import RETAIN_MODEL, Battery, Subject
from gru_unlearn.attacks.look import FORGET, HOLDOUT, Seen, Variants
from gru_unlearn.evaluation import Evaluation, Missing, ScoreTable, evaluate, score
from gru_unlearn.evaluation.rows import Item, RowSet, Suite
from gru_unlearn.evaluation.suites import attack_metrics

PREFIX = "mia_"
AUC = "AUC"


def membership(battery: Battery) -> Variants:
    """The area under the ROC curve of each membership attack of :mod:`gru_unlearn.evaluation.attacks`."""
    if HOLDOUT not in battery.sets:
        return {"": "needs --unseen, rows like the forget rows that no model saw (the set holdout)"}
    records = {FORGET: battery.forget, HOLDOUT: battery.sample(battery.sets[HOLDOUT], battery.request.max_rows)}
    sets = {name: RowSet([Item(record) for record in rows]) for name, rows in records.items()}
    suite = Suite("attack", sets, [metric for metric in attack_metrics() if metric.key.startswith(PREFIX)])
    evaluated = cache(partial(_evaluated, battery, suite, cache(partial(_by_retain_model, battery, suite))))
    return {
        metric.key.removeprefix(PREFIX): partial(_inferred, battery, metric.key, evaluated) for metric in suite.metrics
    }


def _by_retain_model(battery: Battery, suite: Suite) -> ScoreTable | None:
    """What the reference attack compares with."""
    subject = battery.subjects.get(RETAIN_MODEL)
    if subject is None:
        return None
    return score(subject.load(), subject.encoder, suite, retain_model=True, batch_size=battery.request.batch_size)


def _evaluated(
    battery: Battery, suite: Suite, retain_table: Callable[[], ScoreTable | None], subject: Subject
) -> Evaluation:
    """All attacks on one model, from one scoring pass."""
    return evaluate(
        subject.model, subject.encoder, suite, retain_table=retain_table(), batch_size=battery.request.batch_size
    )


def _inferred(battery: Battery, key: str, evaluated: Callable[[Subject], Evaluation], subject: Subject) -> Seen:
    found = evaluated(subject)
    if key in found.missing:
        raise Missing(found.missing[key])
    return Seen({AUC: found.rows[key]}, list(battery.numbers))
