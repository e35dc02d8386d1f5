"""What a comparison's models answer to the runs' rows, where no suite asks them.

So their verdicts count answers as those of single runs do.
"""

from pathlib import Path

from gru_unlearn.common.sequences import evenly_spread
from gru_unlearn.models.loading import free_memory
from gru_unlearn.results.verdict import Said
from gru_unlearn.runs.recipe import Recipe
from gru_unlearn.runs.run_models import load_on_device
from gru_unlearn.runs.run_preparation import Prepared
from gru_unlearn.runs.seen_rows import said_by, see_rows

ASKED = Recipe.report_examples
"""Rows of each set: as many, and the same ones, as a run asks that nobody told otherwise."""


def ask(prepared: Prepared, folder: Path) -> dict[str, Said]:
    """What a saved model answers to some rows of each set, in numbers.

    Args:
        prepared: a run, whose rows and manner of asking they are.
        folder: the model's.

    Returns:
        Set → answers; without sets of plain texts that are all too short to be continued.
    """
    chosen = {name: evenly_spread(rows, ASKED) for name, rows in prepared.sets.items()}
    model, size = load_on_device(prepared, folder), prepared.recipe.config.per_device_eval_batch_size
    seen = see_rows(model, prepared.model.encoder, chosen, batch_size=size, generate=True)
    del model
    free_memory()
    found = {name: said_by(rows) for name, rows in seen.items()}
    return {name: said for name, said in found.items() if said is not None}
