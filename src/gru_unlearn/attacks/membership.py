"""Membership inference: can forget rows be told from rows that no model saw?"""

from collections.abc import Callable, Sequence
from functools import cache, partial

from gru_unlearn.attacks.battery import RETAIN_MODEL, Battery
from gru_unlearn.attacks.probing import Probed, Variants
from gru_unlearn.attacks.subject import Subject
from gru_unlearn.data import Record
from gru_unlearn.evaluation import Evaluation, Missing, ScoreTable, evaluate, score
from gru_unlearn.evaluation.attacks import UNSEEN
from gru_unlearn.evaluation.rows import Item, RowSet, Suite
from gru_unlearn.evaluation.suites import attack_metrics
from gru_unlearn.results.row_kinds import FORGET

PREFIX = "mia_"
AUC = "AUC"


def membership(battery: Battery) -> Variants:
    """The area under the ROC curve of each membership attack of :mod:`gru_unlearn.evaluation.attacks`."""
    if UNSEEN not in battery.sets:
        return {"": "needs --holdout, rows like the forget rows that no model saw"}
    unseen = battery.sample(battery.sets[UNSEEN], battery.request.max_rows)
    sets = {FORGET.key: _row_set(battery.forget), UNSEEN: _row_set(unseen)}
    suite = Suite("attack", sets, [metric for metric in attack_metrics() if metric.key.startswith(PREFIX)])

    by_retain_model = cache(partial(_by_retain_model, battery, suite))
    evaluated = cache(partial(_evaluated, battery, suite, by_retain_model))  # once a model, however many metrics
    keys = [metric.key for metric in suite.metrics]
    return {key.removeprefix(PREFIX): partial(_inferred, battery, key, evaluated) for key in keys}


def _row_set(records: Sequence[Record]) -> RowSet:
    return RowSet([Item(record) for record in records])


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
    batch_size = battery.request.batch_size
    return evaluate(subject.model, subject.encoder, suite, retain_table=retain_table(), batch_size=batch_size)


def _inferred(battery: Battery, key: str, evaluated: Callable[[Subject], Evaluation], subject: Subject) -> Probed:
    found = evaluated(subject)
    if key in found.missing:
        raise Missing(found.missing[key])
    return Probed({AUC: found.rows[key]}, list(battery.numbers))
