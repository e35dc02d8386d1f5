"""Training: the trainer, its settings, checkpoints, and the tiny models of the built-in benchmark.

Reading order: :mod:`config`, :mod:`trainer`, then :mod:`scores`, :mod:`checkpoints`, :mod:`builtin`.
"""

from gru_unlearn.training.checkpoints import last_whole_checkpoint
from gru_unlearn.training.config import UnlearningConfig
from gru_unlearn.training.scores import AnswerLogps, answer_logps
from gru_unlearn.training.trainer import UnlearningTrainer, encoder_for

__all__ = [
    "AnswerLogps",
    "UnlearningConfig",
    "UnlearningTrainer",
    "answer_logps",
    "encoder_for",
    "last_whole_checkpoint",
]
