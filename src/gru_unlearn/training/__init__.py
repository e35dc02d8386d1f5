"""Training: the trainer, its settings, checkpoints, and the tiny models of the built-in benchmark.

Reading order: :mod:`config` (with :mod:`inherited_settings`, :mod:`setting_limits` and :mod:`hyperparameters`),
:mod:`examples`, :mod:`pair_trainer`, :mod:`trainer`, then its parts: :mod:`method`, :mod:`inputs`, :mod:`steps`,
:mod:`scores`, :mod:`shortcuts`, :mod:`longest_rows`, :mod:`checkpoints`. Learning instead of forgetting, by the same
steps, is :mod:`tuning_trainer`. Plain training is :mod:`fine_tuning`, and what it makes, :mod:`builtin`.
"""

from gru_unlearn.data import encoder_for
from gru_unlearn.training.checkpoints import drop_checkpoints, last_whole_checkpoint
from gru_unlearn.training.config import UnlearningConfig
from gru_unlearn.training.examples import to_examples
from gru_unlearn.training.pair_trainer import PairTrainer
from gru_unlearn.training.scores import AnswerLogps, answer_logps
from gru_unlearn.training.trainer import UnlearningTrainer
from gru_unlearn.training.tuning_trainer import TuningTrainer

__all__ = [
    "AnswerLogps",
    "PairTrainer",
    "TuningTrainer",
    "UnlearningConfig",
    "UnlearningTrainer",
    "answer_logps",
    "drop_checkpoints",
    "encoder_for",
    "last_whole_checkpoint",
    "to_examples",
]
