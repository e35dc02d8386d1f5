"""Single rows of a run: how probable each answer was before and after, and what the model said.

They stand in ``examples.json`` of the run's folder, for its report. Everything is scored by the evaluation's own pass.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback

from gru_unlearn.common.files import read_json, write_json
from gru_unlearn.common.processes import is_first
from gru_unlearn.data import Encoder, Record
from gru_unlearn.evaluation import RowSet, ScoreTable, Suite, score
from gru_unlearn.evaluation.metrics import exact_answers, probability
from gru_unlearn.evaluation.rows import Item
from gru_unlearn.evaluation.scoring import Progress
from gru_unlearn.results.run_folder import EXAMPLES_FILE

LONGEST_GENERATION = 200
ROOM = 8
"""Tokens that a generation may have beyond the longest true answer."""

Seen = dict[str, list[dict[str, Any]]]
"""Set → for each of its rows ``probability``, and ``says`` where something was generated."""


def choose(rows: int, limit: int) -> list[int]:
    """At most ``limit`` row numbers of ``rows``, evenly spread, so that no person or topic is left out."""
    return list(range(rows)) if rows <= limit else [i * rows // limit for i in range(limit)]


def look(
    model: nn.Module,
    encoder: Encoder,
    sets: Mapping[str, Sequence[Record]],
    *,
    batch_size: int,
    generate: bool,
    on_progress: Progress | None = None,
) -> Seen:
    """Each row's answer probability (see ``forget_Q_A_Prob``), and the greedy answer to each question.

    Takes no random number and leaves the model's mode as it was. A plain text has no question, so nothing to say.
    """
    longest = max(len(encoder.tokenizer(record.answer).input_ids) for rows in sets.values() for record in rows)
    kinds = {
        (name, asked): [row for row, record in enumerate(rows) if bool(record.turns) == asked]
        for name, rows in sets.items()
        for asked in (True, False)
    }
    kinds = {kind: numbers for kind, numbers in kinds.items() if numbers}
    limit = min(LONGEST_GENERATION, longest + ROOM)
    suite = Suite(
        "examples",
        {str(kind): RowSet([Item(sets[kind[0]][row]) for row in rows], limit) for kind, rows in kinds.items()},
        [(exact_answers if generate and kind[1] else probability)(str(kind), str(kind)) for kind in kinds],
    )
    table = score(model, encoder, suite, batch_size=batch_size, on_progress=on_progress)
    seen: Seen = {name: [{} for _ in rows] for name, rows in sets.items()}
    for kind, numbers in kinds.items():
        for number, found in zip(numbers, _found(table, str(kind)), strict=True):
            seen[kind[0]][number] = found
    return seen


def _found(table: ScoreTable, name: str) -> list[dict[str, Any]]:
    rows = []
    for entry in table.answers(name):
        value = math.exp(-entry.loss) if math.isfinite(entry.loss) else None
        rows.append({"probability": value} | ({} if entry.generation is None else {"says": entry.generation}))
    return rows


class ExampleLog(TrainerCallback):
    """Looks at some rows of a run before the first step and after the last one, and keeps ``examples.json``.

    What was seen before the first step is written at once, so that a run that is resumed still has it.

    Args:
        folder: of the run.
        sets: all rows.
        encoder: of the model's tokenizer.
        limit: most rows of each set.
        batch_size: rows at once.
        generate: whether to ask the questions, too.
    """

    def __init__(
        self,
        folder: Path,
        sets: Mapping[str, Sequence[Record]],
        encoder: Encoder,
        limit: int,
        *,
        batch_size: int,
        generate: bool,
    ) -> None:
        self.file, self.encoder, self.batch_size, self.generate = folder / EXAMPLES_FILE, encoder, batch_size, generate
        self.chosen = {name: {row: rows[row] for row in choose(len(rows), limit)} for name, rows in sets.items()}
        self.sizes = {name: len(rows) for name, rows in sets.items()}
        self.seen: dict[str, Seen] = {}

    def see(self, moment: str, model: nn.Module, on_progress: Progress | None = None) -> None:
        """Look at a model ``before`` or ``after`` the run, or at the ``retain_model``; in every process."""
        self.seen[moment] = look(
            model,
            self.encoder,
            {name: list(rows.values()) for name, rows in self.chosen.items()},
            batch_size=self.batch_size,
            generate=self.generate,
            on_progress=on_progress,
        )

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at the model as it is before the first step, and write that down."""
        if state.global_step == 0:
            self.see("before", kwargs["model"])
            self.write()

    def write(self) -> None:
        """Add what was seen to the file, the first process for all."""
        if not is_first():
            return
        content = read_json(self.file) or self._blank()
        for moment, sets in self.seen.items():
            for name, found in sets.items():
                for row, values in zip(content["sets"][name]["rows"], found, strict=True):
                    row[moment] = values
        write_json(self.file, content)

    def _blank(self) -> dict[str, Any]:
        sets = {
            name: {
                "rows_in_set": self.sizes[name],
                "rows": [{"row": n, "question": r.prompt, "answer": r.answer} for n, r in rows.items()],
            }
            for name, rows in self.chosen.items()
        }
        return {"generated": self.generate, "sets": sets}
