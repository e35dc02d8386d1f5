"""The RWKU suite: what a model knows of real people, asked for in three ways, and of their neighbours.

Jin et al., arXiv 2406.10890.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

from gru_unlearn.common.places import has_file
from gru_unlearn.data import Record, Turn, read_rows, to_record
from gru_unlearn.errors import UserError, nearest
from gru_unlearn.evaluation.measure import Measured, Metric
from gru_unlearn.evaluation.metrics import ANY_SCRIPT, exact_answers, probability, rouge
from gru_unlearn.evaluation.rows import Item, RowSet, Suite
from gru_unlearn.evaluation.suites import only_possible
from gru_unlearn.evaluation.table import ANSWER, ScoreTable

RWKU = "Jin et al., RWKU, arXiv 2406.10890"

ANSWER_TOKENS = 30
"""Longest answer to a probe; it also ends with its line. Both as in the benchmark's code."""

FILL_IN = "Fill in the blank with the missing words."
SHORT = "Give a short answer."

FORGET_PROBES = {"forget_level1": FILL_IN, "forget_level2": SHORT, "forget_level3": SHORT}
NEIGHBOR_PROBES = {"neighbor_level1": FILL_IN, "neighbor_level2": SHORT}
PROBES = FORGET_PROBES | NEIGHBOR_PROBES
"""Files of probes, and what is said before each."""

TEXTS = {"forget_mia": "mia_forget", "retain_mia": "mia_retain"}
"""Files of texts that models have read, and what they are called on the hub."""


def rwku(data: str, about: str | None = None, *, rouge_words: str = ANY_SCRIPT) -> Suite:
    """RWKU, or data of your own in its layout.

    Args:
        data: a folder with ``forget_level1`` to ``forget_level3``, ``neighbor_level1`` and ``neighbor_level2`` (fields
            ``query``, ``answer``, ``subject``) and, optionally, ``forget_mia`` and ``retain_mia`` (``text``), as the
            benchmark's ``Target/1_Stephen_King`` or ``All``; or the data set on the hub, ``jinzhuoran/RWKU``.
        about: only the rows whose ``subject`` is this person; unless given, all.
        rouge_words: what ROUGE takes for words, see :func:`gru_unlearn.evaluation.metrics.rouge`.

    Raises:
        UserError: files are missing or cannot be read, lack a field, or hold no row about this person.
    """
    probes = {name: _probes(_rows(data, name, name, about), words) for name, words in PROBES.items()}
    sets = {
        "forget": _short_answers(chain.from_iterable(probes[name] for name in FORGET_PROBES)),
        "retain": _short_answers(chain.from_iterable(probes[name] for name in NEIGHBOR_PROBES)),
    }
    sets |= {name: _short_answers(records) for name, records in probes.items()}
    for name, on_hub in TEXTS.items():
        if _has(data, name):
            sets[name] = RowSet([Item(to_record(*row)) for row in _rows(data, name, on_hub, about)])
    return only_possible(Suite("rwku", sets, rwku_metrics(rouge_words)))


def rwku_metrics(rouge_words: str = ANY_SCRIPT) -> tuple[Metric, ...]:
    """RWKU's metrics on its sets; those on ``forget`` and ``retain`` are over all probes of a kind."""
    recall = partial(rouge, source=RWKU, word=rouge_words)
    return (
        *(recall(f"{name}_ROUGE", name, better="lower") for name in FORGET_PROBES),
        *(recall(f"{name}_ROUGE", name) for name in NEIGHBOR_PROBES),
        _mean_loss("forget_mia_loss", "forget_mia", "higher"),
        _mean_loss("retain_mia_loss", "retain_mia", "lower"),
        probability("forget_Q_A_Prob", "forget", better="lower"),
        exact_answers("forget_exact_answers", "forget", better="lower"),
        probability("retain_Q_A_Prob", "retain"),
        exact_answers("retain_exact_answers", "retain"),
    )


def _mean_loss(key: str, set_name: str, better: str) -> Metric:
    """What RWKU reports as LOSS: how improbable a model finds texts that it has read."""

    def compute(table: ScoreTable, _: ScoreTable | None) -> Measured:
        return Measured.mean(set_name, [entry.loss for entry in table.answers(set_name)])

    definition = f"Mean over the {set_name} texts of their mean cross-entropy"
    return Metric(
        key, compute, (f"{set_name}.{ANSWER}",), definition, range="0 upwards, in nats", better=better, source=RWKU
    )


# --- rows ------------------------------------------------------------------------------------------------------------

_Placed = tuple[dict[str, object], str]
"""A row, and where it stands"""


def _rows(data: str, file: str, on_hub: str, about: str | None) -> list[_Placed]:
    """The rows of a file, about one person where one is named."""
    source = f"{data}:{on_hub}:test"
    if Path(data).expanduser().is_dir():
        source = f"{data}:{file}"
    rows = [(row, f"{source}, row {number}") for number, row in enumerate(read_rows(source), start=1)]
    if about is None:
        return rows
    chosen = [row for row in rows if row[0].get("subject") == about]
    if not chosen:
        people = {str(row["subject"]) for row, _ in rows if "subject" in row}
        raise UserError(f"{source}: no row about {about!r}{nearest(about, sorted(people))}")
    return chosen


def _has(data: str, file: str) -> bool:
    """Whether there are such texts; on the hub there are."""
    folder = Path(data).expanduser()
    return not folder.is_dir() or has_file(folder, file)


def _probes(rows: Sequence[_Placed], instruction: str) -> list[Record]:
    records = []
    for row, where in rows:
        _need_probe(row, where)
        record = to_record(row, where)
        question = Turn("user", f"{instruction}\n{record.prompt}")
        records.append(replace(record, turns=(question, *record.turns[1:])))
    return records


def _need_probe(row: Mapping[str, object], where: str) -> None:
    if not {"query", "answer"} <= row.keys():
        raise UserError(f"{where} needs the fields query and answer, it has: {', '.join(row)}")


def _short_answers(records: Iterable[Record]) -> RowSet:
    return RowSet([Item(record) for record in records], max_new_tokens=ANSWER_TOKENS, cut_at="\n")
