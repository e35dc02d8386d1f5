"""Single rows of a run, before and after: ``examples.json`` in the run's folder, for its report."""

from typing import Any

from torch import nn
from transformers import TrainerCallback

from gru_unlearn.common.processes import is_first
from gru_unlearn.common.sequences import evenly_spread
from gru_unlearn.evaluation.scoring import Progress
from gru_unlearn.results.row_examples import ExampleRow, Examples, ExampleSet, Moment
from gru_unlearn.runs.run_preparation import Prepared
from gru_unlearn.runs.seen_rows import SeenRow, see_rows
from gru_unlearn.training.compute_type import computing_as_steps


class ExampleLog(TrainerCallback):
    """Looks at some rows of a run before the first step and after the last one, and keeps ``examples.json``.

    What was seen before the first step is written at once, so that a run that is resumed still has it. A run whose
    ``report_examples`` is 0 looks at nothing and has no such file.
    """

    def __init__(self, prepared: Prepared) -> None:
        self.prepared, limit = prepared, prepared.recipe.report_examples
        self.file = prepared.claim.folder.examples_file
        self.in_many = prepared.recipe.config.world_size > 1
        sets = prepared.sets if limit else {}
        self.chosen = {name: evenly_spread(rows, limit) for name, rows in sets.items()}
        self.seen: dict[Moment, dict[str, list[SeenRow]]] = {}

    def see(self, moment: Moment, model: nn.Module, on_progress: Progress | None = None) -> None:
        """Look at a model ``before`` or ``after`` the run, or at the ``retain_model``; in every process."""
        if self.chosen:
            encoder, config = self.prepared.model.encoder, self.prepared.recipe.config
            with computing_as_steps(config, sharded=self.in_many):  # with several processes it may be
                self.seen[moment] = see_rows(
                    model,
                    encoder,
                    self.chosen,
                    batch_size=config.per_device_eval_batch_size,
                    generate=True,
                    across_processes=self.in_many,
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
                    _note(row, moment, seen)
        examples.write(self.file)

    def _unseen(self) -> Examples:
        sets = {}
        for name, chosen in self.chosen.items():
            count = len(self.prepared.sets[name])
            rows = []
            for number, record in zip(evenly_spread(range(count), len(chosen)), chosen, strict=True):
                rows.append(ExampleRow(row=number, question=record.prompt, answer=record.answer))
            sets[name] = ExampleSet(rows_in_set=count, rows=rows)
        return Examples(generated=True, sets=sets)


def _note(row: ExampleRow, moment: Moment, found: SeenRow) -> None:
    setattr(row, moment, found.seen)
    if found.continues:
        row.question, row.continuation = found.given, found.due
