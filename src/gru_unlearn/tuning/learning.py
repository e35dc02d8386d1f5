"""What is seen of a fine-tuning as it goes, and where it stops by itself."""

from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback

from gru_unlearn.errors import UserError
from gru_unlearn.runs.training_progress import TrainingProgress


class LearningProgress(TrainingProgress):
    """Loss and how well each set is known."""

    shown: Mapping[str, str] = {
        "loss": "loss {:.3f}",
        "eval_train_prob": "train prob {:.3f}",
        "eval_without_prob": "left out {:.3f}",
        "eval_held_out_prob": "held-out {:.3f}",
    }
    evaluated, stepped = "eval_train_prob", "loss"
    enough = "enough is learnt"


class StopWhenLearnt(TrainerCallback):
    """Ends the run once the training rows are known well enough.

    Args:
        probability: their mean answer probability.
    """

    def __init__(self, probability: float) -> None:
        self.probability = probability

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Compare.

        Raises:
            UserError: the base knows them so well already.
        """
        found = kwargs["metrics"]["eval_train_prob"]
        if found < self.probability:
            return
        if state.global_step == 0:
            raise UserError(
                f"--stop-at-prob {self.probability:g} is reached before the first step (the base gives the training "
                f"rows {found:.3f}): there is nothing to learn; raise it, or leave it out"
            )
        control.should_training_stop = True
