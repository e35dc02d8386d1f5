"""What a model makes of single rows, by the evaluation's own scoring pass: how probable an answer is, what it says."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from gru_unlearn.data import Encoder, Record
from gru_unlearn.evaluation import Entry, RowSet, Suite, score
from gru_unlearn.evaluation.metrics import exact_answers, probability
from gru_unlearn.evaluation.rows import Item
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
    parts = _parts(sets)
    limit = _longest_generation(sets, encoder)
    metrics = []
    for name, part in parts.items():
        metric = exact_answers if generate and part.asks else probability
        metrics.append(metric(name, name))
    suite = Suite("rows", {name: RowSet(part.items, limit) for name, part in parts.items()}, metrics)
    table = score(model, encoder, suite, batch_size=batch_size, on_progress=on_progress)

    seen = {name: [Seen()] * len(rows) for name, rows in sets.items()}
    for name, part in parts.items():
        for row, entry in zip(part.rows, table.answers(name), strict=True):
            seen[part.of][row] = _seen(entry)
    return seen


@dataclass(frozen=True, slots=True)
class _Part:
    """The rows of a set that ask something, or those that do not."""

    of: str
    asks: bool
    rows: list[int]
    items: list[Item]


def _parts(sets: Mapping[str, Sequence[Record]]) -> dict[str, _Part]:
    parts = {}
    for name, records in sets.items():
        for asks in (True, False):
            rows = [row for row, record in enumerate(records) if bool(record.turns) == asks]
            if rows:
                items = [Item(records[row]) for row in rows]
                parts[f"{name}, {'questions' if asks else 'texts'}"] = _Part(name, asks, rows, items)
    return parts


def _longest_generation(sets: Mapping[str, Sequence[Record]], encoder: Encoder) -> int:
    longest = 0
    for records in sets.values():
        lengths = (len(encoder.tokenizer(record.answer).input_ids) for record in records)
        longest = max(longest, *lengths)
    return min(LONGEST_GENERATION, longest + ROOM)


def _seen(entry: Entry) -> Seen:
    seen = Seen(probability=math.exp(-entry.loss) if math.isfinite(entry.loss) else None)
    if entry.generation is not None:
        seen.says = entry.generation
    return seen
