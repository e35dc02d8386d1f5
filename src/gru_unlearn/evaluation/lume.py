"""The LUME suite: stories, invented people's data and real biographies, continued and asked about.

Ramakrishna et al., arXiv 2502.15097; the data of SemEval-2025 task 4.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

from gru_unlearn.common.places import has_file
from gru_unlearn.data import Record, load_records, read_rows, to_record
from gru_unlearn.errors import UserError
from gru_unlearn.evaluation.attacks import UNSEEN, membership_metric
from gru_unlearn.evaluation.measure import Measured, Metric
from gru_unlearn.evaluation.metrics import ANY_SCRIPT, exact_answers, harmonic_mean, probability, rouge
from gru_unlearn.evaluation.rows import Item, RowSet, Suite
from gru_unlearn.evaluation.suites import only_possible
from gru_unlearn.evaluation.table import ScoreTable

LUME = "Ramakrishna et al., LUME, arXiv 2502.15097"

TASKS = ("Task1", "Task2", "Task3")
"""Stories, invented people's data, real biographies: as rows say in ``task``."""
FOLDS = ("train", "validation")
"""Parts of SemEval's files."""
VALIDATION = FOLDS[1]

NEW_TOKENS = 256
"""Longest generation, as in the organizers' script."""

MEMBERS = "members"
"""Set of texts that the model was trained on; those that it was not are :data:`UNSEEN`."""


def lume(data: str, fold: str | None = None, *, rouge_words: str = ANY_SCRIPT) -> Suite:
    """LUME, as its repository or SemEval-2025 gives it, or data of your own in that layout.

    Args:
        data: a folder with ``forget`` and ``retain`` (fields ``id``, ``input``, ``output``, ``task``), or with
            SemEval's ``forget_validation-00000-of-00001.parquet`` and the like, also below ``data/``, or the
            ``validation/forget.jsonl`` that the organizers' commands make of it; optionally
            ``mia_data/member`` and ``mia_data/nonmember`` (``document``). Or SemEval's data set on the hub.
        fold: train or validation of SemEval's files; unless given, validation where a folder has no undivided files.
        rouge_words: what ROUGE takes for words, see :func:`gru_unlearn.evaluation.metrics.rouge`.

    Raises:
        UserError: files are missing or cannot be read, or a row lacks a field or says neither how nor on what it is.
    """
    if fold is not None and fold not in FOLDS:
        raise UserError(f"--fold {fold}: expected {' or '.join(FOLDS)}")
    sets: dict[str, RowSet] = {}
    for name in ("forget", "retain"):
        records = load_records(_source(data, name, fold))
        sets[name] = _running(records)
        sets |= {f"{name}_{part}": _running(rows) for part, rows in _by_part(records).items()}
    for name, file in ((MEMBERS, "member"), (UNSEEN, "nonmember")):
        if texts := _texts(data, file):
            sets[name] = RowSet(texts)
    return only_possible(Suite("lume", sets, lume_metrics(rouge_words)))


def lume_metrics(rouge_words: str = ANY_SCRIPT) -> tuple[Metric, ...]:
    """LUME's metrics: two for each task, on what must go and on what must stay, their mean, and the attack."""
    by_task: list[Metric] = []
    terms: list[Metric] = []
    for name, task in product(("forget", "retain"), TASKS):
        better = "lower" if name == "forget" else "higher"
        pair = _of_task(name, task, better, rouge_words)
        by_task += pair
        if name == "forget":
            pair = list(map(_forgotten, pair))
        terms += pair
    attack = membership_metric("lume_mia_loss", "loss", MEMBERS)
    return (
        *by_task,
        replace(harmonic_mean("lume_task_aggregate", terms), source=LUME),
        attack,
        _privacy(attack),
        probability("forget_Q_A_Prob", "forget", better="lower"),
        probability("retain_Q_A_Prob", "retain"),
    )


def _of_task(name: str, task: str, better: str, rouge_words: str) -> list[Metric]:
    """How much of a text is given back, and how many questions are answered."""
    recall = partial(rouge, better=better, source=LUME, word=rouge_words)
    answered = exact_answers(f"{name}_{task}_knowledge", f"{name}_{task}_qa", better=better, case=False)
    return [recall(f"{name}_{task}_regurgitation", f"{name}_{task}_sc"), replace(answered, source=LUME)]


def _forgotten(metric: Metric) -> Metric:
    """1 minus a share of what must go."""

    def compute(table: ScoreTable, retain: ScoreTable | None) -> Measured:
        return Measured(1 - metric.compute(table, retain).value)

    return replace(metric, key=f"1 - {metric.key}", compute=compute, better="higher")


def _privacy(attack: Metric) -> Metric:
    """1 where an attack tells nothing, 0 where it is always right or always wrong."""

    def compute(table: ScoreTable, retain: ScoreTable | None) -> Measured:
        return Measured(1 - 2 * abs(attack.compute(table, retain).value - 0.5))

    definition = f"1 - 2 |{attack.key} - 0.5|"
    return replace(
        attack,
        key="lume_mia_score",
        compute=compute,
        definition=definition,
        range="0 to 1",
        better="higher",
        source=LUME,
    )


# --- rows ------------------------------------------------------------------------------------------------------------

_KIND = re.compile(r"(sc|qa)\d+$")
"""How an ``id`` ends: the number of a sentence to complete, or of a question."""


def _running(records: Sequence[Record]) -> RowSet:
    return RowSet([Item(record) for record in records], max_new_tokens=NEW_TOKENS, raw=True)


def _by_part(records: Sequence[Record]) -> Mapping[str, list[Record]]:
    """``Task1_sc`` → its rows."""
    parts: dict[str, list[Record]] = {}
    for record in records:
        parts.setdefault(_part(record), []).append(record)
    return parts


def _part(record: Record) -> str:
    task, kind = record.row.get("task"), _KIND.search(str(record.row.get("id", "")))
    if task not in TASKS:
        raise UserError(f"{record.where}: its task must be {', '.join(TASKS)}")
    if kind is None:
        raise UserError(f"{record.where}: its id must end with sc or qa and a number, as 12ab-sc1 does")
    if not record.turns:
        raise UserError(f"{record.where} needs the fields input and output, it has: {', '.join(record.row)}")
    return f"{task}_{kind[1]}"


def _source(data: str, name: str, fold: str | None) -> str:
    """Where the rows to forget or to retain are read from."""
    root = Path(data).expanduser()
    if not root.is_dir():
        return f"{data}::{name}_{fold or VALIDATION}"
    part = fold or VALIDATION
    stems = [f"{name}_{part}", f"{name}_{part}-00000-of-00001", f"{part}/{name}"]
    if not fold:
        stems.insert(0, name)
    for folder, stem in product((root, root / "data"), stems):
        if has_file(folder, stem):
            return f"{folder}:{stem}"
    raise UserError(f"{data}: no {' or '.join(stems)} in it or in its folder data")


def _texts(data: str, file: str) -> list[Item]:
    """Whole texts of the attack; none where a folder lacks them, or on the hub."""
    folder = Path(data).expanduser() / "mia_data"
    if not has_file(folder, file):
        return []
    source = f"{folder}:{file}"
    return [_text(row, f"{source}, row {number}") for number, row in enumerate(read_rows(source), start=1)]


def _text(row: Mapping[str, object], where: str) -> Item:
    if "document" not in row:
        raise UserError(f"{where} needs the field document, it has: {', '.join(row)}")
    return Item(to_record({"text": row["document"]}, where))
