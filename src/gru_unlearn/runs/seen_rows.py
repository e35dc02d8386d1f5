"""What a model makes of single rows, by the evaluation's own scoring pass: how probable an answer is, what it says."""

import math
from collections.abc import Mapping, Sequence
from itertools import chain

from torch import nn

from gru_unlearn.data import Encoder, Record
from gru_unlearn.evaluation import Entry, Item, RowSet, Suite, score
from gru_unlearn.evaluation.metrics import exact_answers, probability
from gru_unlearn.evaluation.scoring import Progress
from gru_unlearn.results.row_examples import Seen

LONGEST_GENERATION = 200
ROOM = 8
"""Tokens that a generation may have beyond the longest true answer."""


def see_rows(
    model: nn.Module,
    encoder: Encoder,
    sets: Mapping[str, Sequence[Record]],
    *,
    batch_size: int,
    generate: bool,
    on_progress: Progress | None = None,
) -> dict[str, list[Seen]]:
    """Each row's answer probability (see ``forget_Q_A_Prob``), and the greedy answer to each question, by set.

    Takes no random number and leaves the model's mode as it was. A plain text has no question, so nothing to say.
    """
    lengths = [len(encoder.tokenizer(record.answer).input_ids) for record in chain.from_iterable(sets.values())]
    limit = min(LONGEST_GENERATION, max(lengths) + ROOM)
    parts, metrics = _questions_and_texts(sets), []
    for part in parts:
        name, asks = str(part), part[1]
        metrics.append(exact_answers(name, name) if generate and asks else probability(name, name))
    suite = Suite("rows", {str(part): RowSet([*rows.values()], limit) for part, rows in parts.items()}, metrics)
    table = score(model, encoder, suite, batch_size=batch_size, on_progress=on_progress)

    seen = {name: [Seen()] * len(rows) for name, rows in sets.items()}
    for part, rows in parts.items():
        for row, entry in zip(rows, table.answers(str(part)), strict=True):
            seen[part[0]][row] = _seen(entry)
    return seen


def _questions_and_texts(sets: Mapping[str, Sequence[Record]]) -> dict[tuple[str, bool], dict[int, Item]]:
    """(Set, whether they ask) → number in the set → row."""
    parts = {}
    for name, records in sets.items():
        for asks in (True, False):
            rows = {row: Item(record) for row, record in enumerate(records) if bool(record.turns) == asks}
            if rows:
                parts[name, asks] = rows
    return parts


def _seen(entry: Entry) -> Seen:
    seen = Seen(probability=math.exp(-entry.loss) if math.isfinite(entry.loss) else None)
    if entry.generation is not None:
        seen.says = entry.generation
    return seen
