"""Single rows of an evaluation, from its score tables, as a run keeps them in ``examples.json``."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from gru_unlearn.evaluation.table import Entry, Missing, ScoreTable
from gru_unlearn.reporting.broken_answers import Told
from gru_unlearn.results.row_examples import ExampleRow, Examples, ExampleSet, Seen
from gru_unlearn.results.row_kinds import FORGET
from gru_unlearn.results.run_folder import RunFolder

MOST_ROWS = 200
"""Of each set; the worst ones."""

Tables = Mapping[str, ScoreTable]
"""``model``, and where there is one ``retain_model``"""


def load_tables(folder: RunFolder) -> Tables:
    """The score tables that an evaluation left."""
    files = {name: folder.scores_file(name) for name in ("model", "retain_model")}
    return {name: ScoreTable.load(file) for name, file in files.items() if file.is_file()}


def evaluated_rows(sets: Iterable[str], tables: Tables) -> Examples | None:
    """The worst rows of each set, in their order; None without score tables."""
    found = {}
    for name in sets:
        rows = _rows_of_set(name, tables)
        if rows:
            found[name] = ExampleSet(rows_in_set=len(rows), rows=_worst(name, rows))
    if not found:
        return None
    return Examples(generated=True, sets=found)


def _rows_of_set(name: str, tables: Tables) -> list[ExampleRow]:
    answers, by_retain_model = _answers(tables.get("model"), name), _answers(tables.get("retain_model"), name)
    rows = []
    for number, entry in enumerate(answers):
        row = ExampleRow(row=number, question=entry.prompt, answer=entry.answer)
        if entry.continuation is not None:
            row.continuation = entry.continuation
        row.after = Seen(probability=_probability(entry), says=entry.said)
        if len(by_retain_model) == len(answers):
            row.retain_model = Seen(probability=_probability(by_retain_model[number]))
        rows.append(row)
    return rows


def _worst(name: str, rows: Sequence[ExampleRow]) -> list[ExampleRow]:
    """Forget rows are the worse the more probable, all others the less."""
    is_forget = name.startswith(FORGET.key)
    worst = sorted(rows, key=lambda row: (row.after and row.after.probability) or 0.0, reverse=is_forget)
    return sorted(worst[:MOST_ROWS], key=lambda row: row.row)


def answered(table: ScoreTable | None, name: str) -> Iterator[Told]:
    """What the model said to each row of a set that was asked, or was continued."""
    for entry in _answers(table, name):
        if entry.said is not None:
            yield Told(entry.due, entry.said, entry.continuation is not None)


def mean_probability(table: ScoreTable | None, name: str) -> float | None:
    """Over all rows of a set; None where a table lacks some."""
    values = [_probability(entry) for entry in _answers(table, name)]
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return sum(known) / len(known)


def _answers(table: ScoreTable | None, name: str) -> list[Entry]:
    if table is None:
        return []
    try:
        return table.answers(name)
    except Missing:
        return []


def _probability(entry: Entry) -> float | None:
    if not math.isfinite(entry.loss):
        return None
    return math.exp(-entry.loss)
