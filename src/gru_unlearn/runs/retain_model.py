"""What the retain model says, which never saw the forget set: how far to forget, and what its suite's scores are."""

from dataclasses import dataclass

from gru_unlearn.evaluation import ScoreTable, score
from gru_unlearn.models.loading import free_memory
from gru_unlearn.runs.example_log import ExampleLog
from gru_unlearn.runs.run_models import load_on_device, mean_probability
from gru_unlearn.runs.run_preparation import Prepared


@dataclass(frozen=True, slots=True)
class RetainModelSays:
    """All None where there is no retain model."""

    forget_target: float | None = None
    """f*, its mean probability of the forget answers"""
    table: ScoreTable | None = None
    """its scores, where the run measures a suite"""


def ask_retain_model(prepared: Prepared, examples: ExampleLog) -> RetainModelSays:
    """Load the retain model if there is one, ask it everything at once, and drop it again."""
    if prepared.retain_model is None:
        return RetainModelSays()
    model = load_on_device(prepared, prepared.retain_model.folder)
    forget_target = mean_probability(prepared, model, prepared.examples["forget"])
    table = None
    if prepared.suite is not None:
        size = prepared.recipe.config.per_device_eval_batch_size
        table = score(model, prepared.model.encoder, prepared.suite, retain_model=True, batch_size=size)
    examples.see("retain_model", model)
    del model
    free_memory()
    return RetainModelSays(forget_target, table)
