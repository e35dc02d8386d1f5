"""What ``gru unlearn`` takes where nothing is set: its learning rate is auto, and with that other defaults hold."""

from dataclasses import fields
from typing import Any

from gru_unlearn.runs.step_memory import Footing
from gru_unlearn.training import UnlearningConfig
from gru_unlearn.training.on_its_own import AUTO, settled

CHOSEN = "chosen by the run"
"""In the place of a default."""

LEFT_TO_RUN = (*[one.name for one in fields(Footing)], "go_on_to", "eval_steps", "eval_max_rows", "keep_best")
"""Settings that a run on its own chooses when it has seen rows, model and memory."""


def bare_defaults() -> dict[str, Any]:
    """Setting → what the command takes without it, of those whose own default is another one; None: nothing."""
    config = UnlearningConfig(learning_rate=AUTO, use_cpu=True)
    followed = {
        "eval_strategy": "steps",
        "stop_when_forgotten": True,
        "stop_below_kept": config.resolved_stop_below_kept,
        "stop_without_progress": config.resolved_stop_without_progress,
        "num_train_epochs": None,  # max_steps goes before
    }
    return settled({"learning_rate": AUTO}) | followed | dict.fromkeys(LEFT_TO_RUN, CHOSEN)
