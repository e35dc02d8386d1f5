"""Learning instead of forgetting: the same trainer and the same steps, down −log p of the answers."""

from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gru_unlearn.objectives.retain import nll
from gru_unlearn.training.config import UnlearningConfig
from gru_unlearn.training.examples import Rows
from gru_unlearn.training.trainer import UnlearningTrainer


class TuningTrainer(UnlearningTrainer):
    """Teaches a model the answers of ``train_dataset``; evaluations tell ``eval_train_prob``.

    Args:
        model: causal language model, a PEFT model included.
        args: the run's settings, with ``rectification`` none and no retain term.
        train_dataset: rows, records or examples, as :class:`UnlearningTrainer` takes them.
        eval_dataset: further sets by name whose answer probability is tracked beside it.
        processing_class: the model's tokenizer.
        kwargs: further arguments of :class:`UnlearningTrainer`.
    """

    trained_set = "train"

    def __init__(
        self,
        model: PreTrainedModel | nn.Module,
        args: UnlearningConfig,
        *,
        train_dataset: Rows,
        eval_dataset: Mapping[str, Rows] | None = None,
        processing_class: PreTrainedTokenizerBase,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            model,
            args,
            forget_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            objective=nll,
            **kwargs,
        )
