"""The score table: what one scoring pass knows about a model's answers. Every metric is a function of it.

No torch here or in the metrics: a table read back from its Parquet file is all that a metric needs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from gru_unlearn.errors import UserError

TokenFloats = npt.NDArray[np.float32]
"""[n], one number for each token of an answer"""

ANSWER, PARAPHRASE, WRONG = ("answer", "paraphrase", "wrong")
"""What an answer is to its row: the row's own answer, the same in other words, or a wrong one."""

WORD_FOR_WORD = "word_for_word"
"""A metric's need of a set: what the model says to questions, and how it continues plain texts."""


class Missing(Exception):
    """A metric cannot be computed from these tables; the message says what is missing."""


class Use(NamedTuple):
    """Where a scored answer stands: the ``number``-th answer of its ``role`` in a ``row`` (from 0) of a ``set``."""

    set: str
    row: int
    role: str = ANSWER
    number: int = 0


@dataclass(slots=True)
class Entry:
    """One distinct (prompt, answer) under one model. n is the number of answer tokens, with those that close it.

    Log-probabilities are natural logarithms, in float32.
    """

    prompt: str
    """the question; of a plain text that was continued, its beginning"""
    answer: str
    logps: TokenFloats
    """[n], log-probability of each answer token given the prompt and the answer tokens before it"""
    hits: npt.NDArray[np.bool_]
    """[n], whether the token is the model's most probable one there"""
    mu: TokenFloats
    """[n], mean of the log-probability over the vocabulary, under the model's own distribution at that position"""
    sigma: TokenFloats
    """[n], standard deviation of the same"""
    closing: int = 1
    """how many tokens at the end close the answer: end-of-sequence, or what a chat template ends a turn with; 0 where
    the length limit cut the answer"""
    gradnorm: float | None = None
    """mean over the parameter tensors of the 2-norm of the gradient of the answer's mean cross-entropy, without
    end-of-sequence"""
    generation: str | None = None
    """greedy continuation of the prompt; None where no metric asked for it"""
    continuation: str | None = None
    """how a plain text goes on behind its beginning, as long as a generation; None of questions, and where no metric
    asked for it"""
    uses: list[Use] = field(default_factory=list)

    @property
    def loss(self) -> float:
        """Mean cross-entropy over all answer tokens, in nats."""
        return -float(self.logps.mean(dtype=np.float64))

    @property
    def due(self) -> str:
        """What a generation is compared with: the answer, or the continuation of a plain text."""
        return self.answer if self.continuation is None else self.continuation

    @property
    def said(self) -> str | None:
        """The generation; however long, the answer, where each of its tokens is the likeliest behind those before it.

        Generations are cut at a length, and one that was cut is no answer word for word.
        """
        if self.generation is not None and self.continuation is None and self.hits.all():
            return self.answer
        return self.generation

    @property
    def text(self) -> slice:
        """The answer's tokens without those that close it."""
        return slice(0, len(self.logps) - self.closing)


def sizes_in_words(sizes: Mapping[str, int]) -> str:
    """``forget 40, retain 12 rows``."""
    return ", ".join(f"{name} {size}" for name, size in sizes.items()) + " rows"


@dataclass
class ScoreTable:
    """All scores of one model. ``settings`` says how they were made (see :mod:`gru_unlearn.evaluation.score_key`)."""

    entries: list[Entry]
    settings: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        """``ScoreTable(52 answers: forget 40, retain 12 rows)``."""
        return f"{type(self).__name__}({len(self.entries)} answers: {sizes_in_words(self.sets)})"

    @cached_property
    def _index(self) -> dict[str, dict[int, dict[tuple[str, int], Entry]]]:
        index: dict[str, dict[int, dict[tuple[str, int], Entry]]] = {}
        for entry in self.entries:
            for use in entry.uses:
                index.setdefault(use.set, {}).setdefault(use.row, {})[use.role, use.number] = entry
        return index

    @property
    def sets(self) -> dict[str, int]:
        """Names of the scored sets, with their numbers of rows."""
        return {name: len(rows) for name, rows in self._index.items()}

    def answers(self, set_name: str, role: str = ANSWER) -> list[Entry]:
        """The first answer of a role in each row of a set, in the order of the rows.

        Raises:
            Missing: no such set here, or rows without an answer of that role (named, counted from 1).
        """
        return [entries[0] for entries in self.all_answers(set_name, role)]

    def all_answers(self, set_name: str, role: str) -> list[list[Entry]]:
        """All answers of a role in each row of a set, in the order of the rows. Raises as :meth:`answers`."""
        rows = self._index.get(set_name)
        if not rows:
            raise Missing(f"no rows of the set {set_name!r} were scored")
        numbers = sorted(rows)
        found = [_of_role(rows[number], role) for number in numbers]
        lacking = [number for number, entries in zip(numbers, found, strict=True) if not entries]
        if lacking:
            raise Missing(f"{set_name}: no {role} answer scored in {name_rows(lacking)}")
        return found

    def generations(self, set_name: str) -> list[str]:
        """The greedy continuation of each row's prompt.

        Raises:
            Missing: nothing was generated for some rows.
        """
        texts = [entry.generation for entry in self.answers(set_name)]
        lacking = [row for row, text in enumerate(texts) if text is None]
        if lacking:
            raise Missing(f"{set_name}: nothing was generated for {name_rows(lacking)}")
        return [text for text in texts if text is not None]

    def save(self, path: str | Path) -> None:
        """Write one Parquet file, one row per entry, lists in float32; ``settings`` become the file's metadata."""
        columns: dict[str, list[Any]] = {}
        for name in _ENTRY_SCHEMA.names:
            columns[name] = [getattr(entry, name) for entry in self.entries]
        columns["uses"] = [list(map(Use._asdict, entry.uses)) for entry in self.entries]

        table = pa.table(columns, schema=_ENTRY_SCHEMA)
        pq.write_table(table.replace_schema_metadata(dict(self.settings)), path)

    @classmethod
    def load(cls, path: str | Path) -> "ScoreTable":
        """Read what :meth:`save` wrote.

        Raises:
            UserError: not a readable score table.
        """
        try:
            table = pq.read_table(path)
            names = [OLD_COLUMNS.get(name, name) for name in table.column_names]
            known = _with_later_columns(table.rename_columns(names))
            rows = known.select(_ENTRY_SCHEMA.names).cast(_ENTRY_SCHEMA).to_pylist()
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            raise UserError(f"{path} is not a score table: {str(error).splitlines()[0]}") from None
        settings = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        return cls([_read_entry(row) for row in rows], settings)


_ENTRY_SCHEMA = pa.schema(
    {
        "prompt": pa.string(),
        "answer": pa.string(),
        "logps": pa.list_(pa.float32()),
        "hits": pa.list_(pa.bool_()),
        "mu": pa.list_(pa.float32()),
        "sigma": pa.list_(pa.float32()),
        "closing": pa.int32(),
        "gradnorm": pa.float64(),
        "generation": pa.string(),
        "continuation": pa.string(),
        "uses": pa.list_(pa.struct({"set": pa.string(), "row": pa.int32(), "role": pa.string(), "number": pa.int32()})),
    }
)

OLD_COLUMNS = {"closed": "closing"}
"""What version 0.1.0 called them: whether one token closes the answer."""
LATER_COLUMNS = ("continuation",)
"""What version 0.1.0 did not know."""


def _with_later_columns(table: pa.Table) -> pa.Table:
    for name in LATER_COLUMNS:
        if name not in table.column_names:
            table = table.append_column(_ENTRY_SCHEMA.field(name), pa.nulls(len(table), pa.string()))
    return table


def _of_role(answers: Mapping[tuple[str, int], Entry], role: str) -> list[Entry]:
    """A row's answers of one role, in the order of their numbers."""
    return [answers[key] for key in sorted(answers) if key[0] == role]


def _read_entry(row: dict[str, Any]) -> Entry:
    """An entry from a row of the file, whose lists become arrays in place."""
    for name in ("logps", "mu", "sigma"):
        row[name] = np.asarray(row[name], dtype=np.float32)
    row["hits"] = np.asarray(row["hits"], dtype=bool)
    row["uses"] = [Use(**use) for use in row["uses"]]
    return Entry(**row)


def name_rows(rows: list[int], shown: int = 5) -> str:
    """``[0, 4]`` → ``"rows 1, 5"``: for messages, counted from 1 and cut after a few."""
    word = "rows" if len(rows) > 1 else "row"
    text = f"{word} {', '.join(str(row + 1) for row in rows[:shown])}"
    if len(rows) > shown:
        text += f" and {len(rows) - shown} more"
    return text
