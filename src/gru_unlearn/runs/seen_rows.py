"""What a model makes of single rows, by the evaluation's own scoring pass: how probable an answer is, what it says."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from torch import nn

from gru_unlearn.data import Encoder, Record
from gru_unlearn.evaluation import Entry, Item, RowSet, Suite, score
from gru_unlearn.evaluation.metrics import exact_answers, probability
from gru_unlearn.evaluation.scoring import Progress
from gru_unlearn.reporting.broken_answers import Told, said_of
from gru_unlearn.results.row_examples import Seen
from gru_unlearn.results.verdict import Said

LONGEST_GENERATION = 200
ROOM = 8
"""Tokens that a generation may have beyond the longest true answer."""


class SeenRow(NamedTuple):
    """What one model makes of a row, and what it was asked."""

    seen: Seen
    given: str = ""
    """the question, or the beginning of a plain text; empty where a text was not continued"""
    due: str = ""
    """what should come word for word: the true answer, or how the text goes on"""
    continues: bool = False
    """whether the row is a plain text that was continued"""


def see_rows(
    model: nn.Module,
    encoder: Encoder,
    sets: Mapping[str, Sequence[Record]],
    *,
    batch_size: int,
    generate: bool,
    across_processes: bool = False,
    on_progress: Progress | None = None,
) -> dict[str, list[SeenRow]]:
    """Each row's answer probability (see ``forget_Q_A_Prob``), and the greedy answer to each question, by set.

    A plain text has no question: it is continued from its beginning, unless it is too short to be cut
    (:mod:`gru_unlearn.data.continuations`). Takes no random number and leaves the model's mode as it was.

    Args:
        generate: whether the model is to say anything.
        model, encoder, batch_size, across_processes, on_progress: as in :func:`gru_unlearn.evaluation.scoring.score`.
        sets: rows by name.
    """
    lengths = [len(encoder.tokenizer(record.answer).input_ids) for record in chain.from_iterable(sets.values())]
    limit = min(LONGEST_GENERATION, max(lengths) + ROOM)
    measure = exact_answers if generate else probability
    metrics = [measure(name, name) for name in sets]
    items = {name: RowSet([Item(record) for record in records], limit) for name, records in sets.items()}
    table = score(
        model,
        encoder,
        Suite("rows", items, metrics),
        batch_size=batch_size,
        across_processes=across_processes,
        on_progress=on_progress,
    )
    return {name: list(map(_seen_row, table.answers(name))) for name in sets}


def said_by(rows: Iterable[SeenRow]) -> Said | None:
    """What a model said to rows, in numbers; None where it was asked none."""
    told = [(row, row.seen.says) for row in rows]
    return said_of(Told(row.due, says, row.continues) for row, says in told if says is not None)


def _seen_row(entry: Entry) -> SeenRow:
    seen = Seen(probability=math.exp(-entry.loss) if math.isfinite(entry.loss) else None)
    if entry.said is not None:
        seen.says = entry.said
    return SeenRow(seen, entry.prompt, entry.due, entry.continuation is not None)
