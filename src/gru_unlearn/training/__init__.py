"""Training: the trainer, its settings, checkpoints, and the tiny models of the built-in benchmark.

Reading order: :mod:`config`, :mod:`examples`, :mod:`trainer`, then :mod:`inputs`, :mod:`steps`, :mod:`reference`,
:mod:`scores`, :mod:`checkpoints`, :mod:`builtin`.
"""

from gru_unlearn.training.checkpoints import last_whole_checkpoint
from gru_unlearn.training.config import UnlearningConfig
from gru_unlearn.training.examples import encoder_for, to_examples
from gru_unlearn.training.scores import AnswerLogps, answer_logps
from gru_unlearn.training.trainer import UnlearningTrainer

__all__ = [
    "AnswerLogps",
    "UnlearningConfig",
    "UnlearningTrainer",
    "answer_logps",
    "encoder_for",
    "last_whole_checkpoint",
    "to_examples",
]
