"""What a suite is: named sets of rows, and the metrics to read off their scores."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from gru_unlearn.data import Record, Turn
from gru_unlearn.evaluation.measure import Metric
from gru_unlearn.evaluation.table import ANSWER, PARAPHRASE, WRONG, sizes_in_words


@dataclass(frozen=True, slots=True)
class Item:
    """One row: a record with its answer, and other answers to the same prompt where the row has them."""

    record: Record
    paraphrase: str | None = None
    wrong: tuple[str, ...] = ()

    def answers(self) -> Iterator[tuple[str, int, Record]]:
        """(role, number, the record with that answer), as in :class:`gru_unlearn.evaluation.table.Use`."""
        yield ANSWER, 0, self.record
        if self.paraphrase is not None:
            yield PARAPHRASE, 0, _answered(self.record, self.paraphrase)
        for number, text in enumerate(self.wrong):
            yield WRONG, number, _answered(self.record, text)


@dataclass(frozen=True, slots=True)
class RowSet:
    """Rows that metrics know by one name."""

    items: Sequence[Item]
    max_new_tokens: int = 200
    """longest generation"""
    cut_at: str = ""
    """text at which a generation ends, beside end-of-sequence; empty: none"""
    raw: bool = False
    """prompt and answer are one running text: no chat template, no tags, no end-of-sequence"""


@dataclass(frozen=True, slots=True)
class Suite:
    """Which rows are scored and which metrics read off them. Make a smaller or larger one with ``replace``."""

    name: str
    sets: Mapping[str, RowSet]
    metrics: Sequence[Metric]
    impossible: Mapping[str, str] = field(default_factory=dict)
    """metrics that these rows do not allow → the reason"""

    def __repr__(self) -> str:
        """``Suite(tofu: forget 40, retain 400 rows; 26 metrics)``."""
        sizes = sizes_in_words({name: len(rows.items) for name, rows in self.sets.items()})
        return f"{type(self).__name__}({self.name}: {sizes}; {len(self.metrics)} metrics)"

    def needs(self, retain_model: bool = False) -> frozenset[str]:
        """All that the metrics need of the model's scores, or of the retain model's."""
        if retain_model:
            return frozenset(chain.from_iterable(metric.retain_needs for metric in self.metrics))
        return frozenset(chain.from_iterable(metric.needs for metric in self.metrics))


def _answered(record: Record, answer: str) -> Record:
    return replace(record, turns=(*record.turns[:-1], Turn("assistant", answer)))
