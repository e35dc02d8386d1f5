"""What a metric is, and how a list of metrics is read off a score table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gru_unlearn.evaluation.table import Missing, ScoreTable, name_rows

RESAMPLES = 1000

RowValues = Sequence[float] | npt.NDArray[np.float64]
"""One number for each row of a set"""

Summand = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
"""From the rows' values to the numbers that a mean is taken of, both [rows]"""


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric's value, and the rows' values behind it where there are any."""

    value: float
    rows: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    """set name → one value per row"""
    interval: tuple[float, float] | None = None
    """95 % bootstrap confidence interval, for means over two rows or more"""
    note: str = ""
    """what a reader of the value should know, such as which component makes it 0"""

    @classmethod
    def mean(cls, set_name: str, values: RowValues, summand: Summand | None = None) -> "Measured":
        """The mean over the rows of a set, of ``values`` or of ``summand(values)``.

        Raises:
            Missing: some values are NaN or infinite; names their rows.
        """
        rows = finite(set_name, values)
        summands = summand(rows) if summand else rows
        interval = bootstrap(summands) if len(summands) > 1 else None
        return cls(float(summands.mean()), {set_name: rows}, interval)


Compute = Callable[[ScoreTable, ScoreTable | None], Measured]


@dataclass(frozen=True, slots=True)
class Metric:
    """A number about a model, as a function of its score table and of the retain model's (None where there is none).

    ``needs`` and ``retain_needs`` tell the scoring pass what to compute, as ``SET.WHAT``; WHAT is ``answer``,
    ``paraphrase`` or ``wrong`` (log-probabilities of these answers), ``generation`` (answers to questions),
    ``word_for_word`` (of plain texts continuations, too) or ``gradnorm``.
    """

    key: str
    compute: Compute
    needs: tuple[str, ...]
    definition: str
    range: str
    better: str
    """which way is better for an unlearned model: ``higher``, ``lower``, or the value to come close to"""
    source: str
    retain_needs: tuple[str, ...] = ()
    retain_optional: bool = False
    """it has a value without a retain model too"""


@dataclass(frozen=True)
class Evaluation:
    """The metrics of one model. Every metric asked for has a key in ``metrics``; None means see ``missing``."""

    metrics: dict[str, float | None]
    missing: dict[str, str]
    """metric → why it has no value"""
    notes: dict[str, str]
    """metric → what to know about its value"""
    intervals: dict[str, tuple[float, float]]
    """metric → 95 % bootstrap confidence interval of the mean over rows"""
    rows: dict[str, dict[str, list[float]]]
    """metric → set → one value per row"""
    table: ScoreTable

    def __repr__(self) -> str:
        """``Evaluation(forget_quality=0.31, model_utility=0.62, privleak=None)``."""
        values = [f"{name}={_short(value)}" for name, value in self.metrics.items()]
        return f"{type(self).__name__}({', '.join(values)})"


def _short(value: float | None) -> str:
    return "None" if value is None else f"{value:.3g}"


def measure(
    metrics: Sequence[Metric],
    table: ScoreTable,
    retain_table: ScoreTable | None = None,
    impossible: Mapping[str, str] | None = None,
) -> Evaluation:
    """Read metrics off a score table, without a model.

    Args:
        metrics: what to measure.
        table: scores of the model in question.
        retain_table: scores of the model trained without the forget set, for the metrics that compare with it.
        impossible: further keys to report as missing, with the reason.
    """
    impossible = impossible or {}
    keys = [*(metric.key for metric in metrics), *impossible]
    evaluation = Evaluation(dict.fromkeys(keys), dict(impossible), notes={}, intervals={}, rows={}, table=table)
    for metric in metrics:
        try:
            _enter(evaluation, metric.key, metric.compute(table, retain_table))
        except Missing as reason:
            evaluation.missing[metric.key] = str(reason)
    return evaluation


def _enter(evaluation: Evaluation, key: str, measured: Measured) -> None:
    """Put what was measured, as far as there is any of it, in its places."""
    evaluation.metrics[key] = measured.value
    if measured.note:
        evaluation.notes[key] = measured.note
    if measured.interval:
        evaluation.intervals[key] = measured.interval
    if measured.rows:
        evaluation.rows[key] = {name: values.tolist() for name, values in measured.rows.items()}


def finite(set_name: str, values: RowValues) -> npt.NDArray[np.float64]:
    """The values as an array.

    Raises:
        Missing: some are NaN or infinite; names their rows.
    """
    array = np.asarray(values, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(array)).tolist()
    if bad:
        raise Missing(f"{set_name}: the score is not a finite number in {name_rows(bad)}")
    return array


def bootstrap(values: npt.NDArray[np.float64], level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of ``values [n]``, from 1,000 resamples of the rows.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    draws = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
