"""Of a large pool of retain rows, those that a run draws from."""

from collections.abc import Sequence

from rich.console import Console

from gru_unlearn.common.notices import tell
from gru_unlearn.common.sequences import evenly_spread
from gru_unlearn.data import Encoder, Example, Record
from gru_unlearn.models.subject import Subject
from gru_unlearn.reporting.progress import stages
from gru_unlearn.runs.model_at_hand import at_hand
from gru_unlearn.runs.near_rows import near_and_spread, nearness, row_features
from gru_unlearn.runs.recipe import Recipe
from gru_unlearn.runs.run_size import passes_a_step, steps_of

LARGE = 4
"""A pool of so many times what a run draws is large."""
LOOKED_AT = 8
"""Of a pool, so many times what is wanted are looked at, evenly spread: features cost a forward pass each."""


def choose_retain_rows(
    recipe: Recipe, model: Subject, forget: Sequence[Record], pool: Sequence[Record]
) -> list[Record]:
    """The rows of the pool that a run draws from, in their order: all of them, unless the recipe says otherwise."""
    if recipe.retain_choice == "all":
        return list(pool)
    count = min(drawn_rows(recipe, len(forget)), max(1, len(pool) // LARGE))
    if recipe.retain_choice == "spread":
        return evenly_spread(pool, count)
    looked_at = evenly_spread(pool, LOOKED_AT * count)
    chosen = near_and_spread(_nearness(recipe, model, forget, looked_at), count)
    tell(f"{count} of {len(pool)} retain rows guard the run: half the nearest to the forget rows, half evenly spread")
    return [looked_at[number] for number in chosen]


def drawn_rows(recipe: Recipe, forget_rows: int) -> int:
    """Retain rows that a run draws in all its steps."""
    config = recipe.config
    return steps_of(config, forget_rows) * passes_a_step(config, forget_rows) * config.resolved_retain_batch_size


def _nearness(recipe: Recipe, model: Subject, forget: Sequence[Record], pool: Sequence[Record]) -> list[float]:
    pad, size = model.encoder.tokenizer.pad_token_id, recipe.config.per_device_eval_batch_size
    first = [_first_example(record, model.encoder) for record in (*forget, *pool)]
    with at_hand(recipe, model) as loaded, stages(Console(), "retain rows near the forget rows") as on_progress:
        features = row_features(
            loaded, first, pad, batch_size=size, on_progress=lambda done, total: on_progress("features", done, total)
        )
    near: list[float] = nearness(features[: len(forget)], features[len(forget) :]).tolist()
    return near


def _first_example(record: Record, encoder: Encoder) -> Example:
    """A row's tokens; of a long plain text its first window."""
    examples = encoder.encode_all([record], "retain")
    if examples:
        return examples[0]
    token = encoder.tokenizer.eos_token_id  # a plain text of a single token: nothing is learnt from it
    return {"input_ids": [token], "labels": [token]}
