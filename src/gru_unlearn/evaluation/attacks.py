"""Membership inference: can forget rows be told from rows that no model saw? And how far from the retain model is that?

An attack gives every row a score that is low for members. Reported is the area under the ROC curve with the
unseen rows as positive class: 1 means that every forget row is recognised, 0.5 that none is.
"""

import math
import zlib
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import scipy  # its parts load on first use

from gru_unlearn.evaluation.measure import Compute, Measured, Metric, finite
from gru_unlearn.evaluation.metrics import FAR_FROM_ZERO, MUSE, NO_RETAIN_MODEL, OPEN_UNLEARNING
from gru_unlearn.evaluation.table import ANSWER, Entry, Missing, ScoreTable

UNSEEN = "holdout"
"""Key of the set of unseen rows, which no model ever saw: in suites, score tables, results and ``needs``. The field
calls such rows holdout rows; they are not the held-out rows (``held_out``), which a model knows and must keep."""

ANSWERS = (f"forget.{ANSWER}", f"{UNSEEN}.{ANSWER}")
"""What most attacks need to be scored."""

K = 0.4
"""Share of the answer's tokens, the least probable ones, that min-k looks at."""

SMALLEST_VARIANCE = 1e-6

ROUNDING = 1e-5
"""Losses of two models that differ by less, in nats, are equal: a model scored twice must not beat itself."""


def loss(entry: Entry) -> float:
    """Mean cross-entropy."""
    return entry.loss


def zlib_entropy(entry: Entry) -> float:
    """Mean cross-entropy by the compressed size of the answer in bytes."""
    return entry.loss / len(zlib.compress(entry.answer.encode()))


def min_k(entry: Entry) -> float:
    """Minus the mean of the lowest 40 % of the token log-probabilities (at least one), without end-of-sequence."""
    return _minus_mean_of_lowest(entry.logps[entry.text])


def min_k_plus_plus(entry: Entry) -> float:
    """Min-k on (log-probability - mean) / standard deviation, both over the vocabulary."""
    sigma = np.maximum(entry.sigma, np.sqrt(SMALLEST_VARIANCE))
    return _minus_mean_of_lowest(((entry.logps - entry.mu) / sigma)[entry.text])


def gradnorm(entry: Entry) -> float:
    """Mean over parameter tensors of the 2-norm of the gradient of the mean cross-entropy, without end-of-sequence."""
    if entry.gradnorm is None:
        raise Missing("no gradient norms in this score table")
    return entry.gradnorm


def _minus_mean_of_lowest(values: npt.NDArray[np.floating]) -> float:
    if not len(values):
        return math.nan
    k = max(1, int(K * len(values)))
    return -float(np.sort(values)[:k].mean(dtype=np.float64))


MembershipScore = Callable[[Entry], float]

MEMBERSHIP_SCORES: dict[str, tuple[MembershipScore, str]] = {
    "loss": (loss, "Yeom et al., arXiv 1709.01604"),
    "zlib": (zlib_entropy, "Carlini et al., arXiv 2012.07805"),
    "min_k": (min_k, "Shi et al., arXiv 2310.16789"),
    "min_k_plus_plus": (min_k_plus_plus, "Zhang et al., arXiv 2404.02936"),
    "gradnorm": (gradnorm, "Wang et al., arXiv 2402.17012"),
}
"""Name → score of a row and where it is from. Attacks that look at one model; the reference attack needs two."""


def membership_metric(key: str, name: str, members: str = "forget") -> Metric:
    """The area under the ROC curve of one of :data:`MEMBERSHIP_SCORES`, telling a set of members from unseen rows."""
    score, source = MEMBERSHIP_SCORES[name]

    def compute(table: ScoreTable, _: ScoreTable | None) -> Measured:
        return _separation(partial(_row_scores, score, table), members)

    what = "gradnorm" if name == "gradnorm" else ANSWER
    needs = (f"{members}.{what}", f"{UNSEEN}.{what}")
    in_words = (score.__doc__ or "").rstrip(".")
    return _area_metric(key, compute, score=in_words, source=source, needs=needs, members=members)


def reference_attack(key: str) -> Metric:
    """Loss, minus the loss under the retain model: what training on the row itself has changed."""

    def compute(table: ScoreTable, retain: ScoreTable | None) -> Measured:
        if retain is None:
            raise Missing(NO_RETAIN_MODEL)
        return _separation(partial(_loss_differences, table, retain))

    definition = "Mean cross-entropy minus that under the retain model"
    source = "Carlini et al., arXiv 2012.07805"
    return _area_metric(key, compute, score=definition, source=source, retain_needs=ANSWERS)


def privacy_leakage(key: str) -> Metric:
    """How much more (negative) or less (positive) min-k recognises forget rows than it does on the retain model."""

    def area(table: ScoreTable) -> float:
        return _separation(partial(_row_scores, min_k, table)).value

    def compute(table: ScoreTable, retain: ScoreTable | None) -> Measured:
        expected, note = 0.5, "without a retain model, its AUC was taken to be 0.5"
        if retain is not None:
            expected, note = 1 - area(retain), ""
        return Measured(((1 - area(table)) - expected) / (expected + FAR_FROM_ZERO) * 100, note=note)

    return Metric(
        key,
        compute,
        needs=ANSWERS,
        retain_needs=ANSWERS,
        retain_optional=True,
        definition="((1 - AUC) - (1 - AUC of the retain model)) / (1 - AUC of the retain model) x 100, AUC of the "
        "min-k attack; below 0 the forget rows are still recognised, above 0 they stand out as unusually improbable",
        range="-100 upwards, in percent",
        better="0",
        source=f"{MUSE}, section 3.3, with the AUC of {OPEN_UNLEARNING}",
    )


def _area_metric(
    key: str,
    compute: Compute,
    *,
    score: str,
    source: str,
    needs: tuple[str, ...] = ANSWERS,
    retain_needs: tuple[str, ...] = (),
    members: str = "forget",
) -> Metric:
    by = f"{score[0].lower()}{score[1:]}"
    return Metric(
        key,
        compute,
        needs=needs,
        retain_needs=retain_needs,
        definition=f"Area under the ROC curve for telling {members} from holdout rows by: {by}",
        range=f"0 to 1; 1 if every {members} row is recognised as a member",
        better="0.5, or the retain model's",
        source=source,
    )


def _row_scores(score: MembershipScore, table: ScoreTable, set_name: str) -> list[float]:
    return [score(entry) for entry in table.answers(set_name)]


def _loss_differences(table: ScoreTable, retain: ScoreTable, set_name: str) -> list[float]:
    pairs = zip(table.answers(set_name), retain.answers(set_name), strict=True)
    differences = np.array([own.loss - other.loss for own, other in pairs])
    differences[np.abs(differences) < ROUNDING] = 0
    return differences.tolist()


def _separation(scores: Callable[[str], list[float]], members: str = "forget") -> Measured:
    """Probability that an unseen row scores above a member, ties counted half: the Mann-Whitney U by its maximum.

    ``scores`` gives one number per row of the set that is named to it.
    """
    found = {name: scores(name) for name in (members, UNSEEN)}
    rows = {name: finite(name, values) for name, values in found.items()}
    positive, negative = rows[UNSEEN], rows[members]
    area = float(scipy.stats.mannwhitneyu(positive, negative).statistic) / (len(positive) * len(negative))
    return Measured(area, rows)
