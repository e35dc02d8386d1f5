"""A run's learning rate where nobody set one, and what stands of it in a summary."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gru_unlearn.results.run_folder import RunFolder
from gru_unlearn.results.run_summary import OwnLearningRate
from gru_unlearn.training import UnlearningConfig, UnlearningTrainer
from gru_unlearn.training.on_its_own import AUTO


def with_own_rate(settings: Mapping[str, Any], *, goes_on: bool) -> dict[str, Any]:
    """Settings of ``gru unlearn`` with the learning rate that it takes by itself, unless they have one.

    A run that was begun when the default was a number is left with it.

    Args:
        settings: as given.
        goes_on: whether an unfinished run in the output folder goes on.
    """
    found = dict(settings)
    if found.get("learning_rate") is not None:
        return found
    begun = None
    if goes_on:
        begun = RunFolder(Path(found.get("output_dir") or str(UnlearningConfig.output_dir))).started_with()
    before = begun.get("settings") if begun else None
    if not isinstance(before, Mapping) or "learning_rate" in before:
        found["learning_rate"] = AUTO
    return found


def own_learning_rate(trainer: UnlearningTrainer) -> OwnLearningRate | None:
    """What the run found and did by itself; None where its learning rate was given."""
    own = trainer.own_rate
    if own is None or own.state is None:
        return None
    return OwnLearningRate.model_validate(own.state.model_dump() | {"why": own.why})
