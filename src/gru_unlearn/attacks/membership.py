"""Membership inference: can forget rows be told from rows that no model saw?"""

from functools import cache, partial

from gru_unlearn.attacks.battery import RETAIN_MODEL, Battery
from gru_unlearn.attacks.probing import Probed, Variants
from gru_unlearn.evaluation import Evaluation, Missing, ScoreTable, evaluate, score
from gru_unlearn.evaluation.attacks import UNSEEN
from gru_unlearn.evaluation.rows import Item, RowSet, Suite
from gru_unlearn.evaluation.suites import attack_metrics
from gru_unlearn.models.subject import Subject
from gru_unlearn.results.row_kinds import FORGET

PREFIX = "mia_"
AUC = "AUC"


def membership(battery: Battery) -> Variants:
    """The area under the ROC curve of each membership attack of :mod:`gru_unlearn.evaluation.attacks`."""
    if UNSEEN not in battery.sets:
        return {"": "needs --unseen, rows like the forget rows that no model saw (the set holdout)"}
    batch_size = battery.request.batch_size
    unseen = battery.sample(battery.sets[UNSEEN], battery.extent.max_rows)
    sets = {FORGET.key: RowSet([*map(Item, battery.forget)]), UNSEEN: RowSet([*map(Item, unseen)])}
    suite = Suite("attack", sets, [metric for metric in attack_metrics() if metric.key.startswith(PREFIX)])

    @cache
    def by_retain_model() -> ScoreTable | None:
        """What the reference attack compares with."""
        subject = battery.subjects.get(RETAIN_MODEL)
        if subject is None:
            return None
        return score(subject.load(), subject.encoder, suite, retain_model=True, batch_size=batch_size)

    @cache
    def evaluated(subject: Subject) -> Evaluation:
        """All attacks on one model, from one scoring pass."""
        return evaluate(subject.model, subject.encoder, suite, retain_table=by_retain_model(), batch_size=batch_size)

    def inferred(key: str, subject: Subject) -> Probed:
        found = evaluated(subject)
        if key in found.missing:
            raise Missing(found.missing[key])
        return Probed({AUC: found.rows[key]}, list(battery.numbers))

    return {metric.key.removeprefix(PREFIX): partial(inferred, metric.key) for metric in suite.metrics}
