"""Single rows of a run, before and after: ``examples.json`` in the run's folder, for its report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback

from gru_unlearn.common.processes import is_first
from gru_unlearn.common.sequences import evenly_spread
from gru_unlearn.data import Encoder, Record
from gru_unlearn.evaluation.scoring import Progress
from gru_unlearn.results.row_examples import ExampleRow, Examples, ExampleSet, Moment, Seen
from gru_unlearn.runs.seen_rows import see_rows


class ExampleLog(TrainerCallback):
    """Looks at some rows of a run before the first step and after the last one, and keeps ``examples.json``.

    What was seen before the first step is written at once, so that a run that is resumed still has it.

    Args:
        file: where to keep it.
        sets: all rows.
        encoder: of the model's tokenizer.
        limit: most rows of each set; with 0 nothing is looked at, and there is no file.
        batch_size: rows at once.
        generate: whether to ask the questions, too.
    """

    def __init__(
        self,
        file: Path,
        sets: Mapping[str, Sequence[Record]],
        encoder: Encoder,
        limit: int,
        *,
        batch_size: int,
        generate: bool,
    ) -> None:
        self.file, self.encoder, self.batch_size, self.generate = file, encoder, batch_size, generate
        self.sets = sets if limit else {}
        self.chosen = {name: evenly_spread(list(enumerate(rows)), limit) for name, rows in self.sets.items()}
        self.seen: dict[Moment, dict[str, list[Seen]]] = {}

    def see(self, moment: Moment, model: nn.Module, on_progress: Progress | None = None) -> None:
        """Look at a model ``before`` or ``after`` the run, or at the ``retain_model``; in every process."""
        if not self.sets:
            return
        records = {}
        for name, rows in self.chosen.items():
            records[name] = [record for _, record in rows]
        self.seen[moment] = see_rows(
            model,
            self.encoder,
            records,
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
        if not (self.seen and is_first()):
            return
        examples = Examples.read(self.file) or self._unseen()
        for moment, sets in self.seen.items():
            for name, found in sets.items():
                for row, seen in zip(examples.sets[name].rows, found, strict=True):
                    setattr(row, moment, seen)
        examples.write(self.file)

    def _unseen(self) -> Examples:
        sets = {}
        for name, chosen in self.chosen.items():
            rows = [ExampleRow(row=row, question=record.prompt, answer=record.answer) for row, record in chosen]
            sets[name] = ExampleSet(rows_in_set=len(self.sets[name]), rows=rows)
        return Examples(generated=self.generate, sets=sets)
