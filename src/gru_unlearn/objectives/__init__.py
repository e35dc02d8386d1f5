"""Forget objectives and retain losses: plain functions of token log-probabilities. Imports torch and nothing else.

A loss takes ``logps [B, T]`` (log-probability of each answer token, zero-padded) and ``mask [B, T]`` and returns

- ``[B, T]``, one value per token: the trainer takes the mean over the answer tokens of an accumulation window, or
- ``[B]``, one value per example: the trainer takes the mean over the examples of the window.

A parameter named ``reference [B]`` asks for the answers' log-probability under the model as it was before
unlearning. Any other parameter is a hyper-parameter with the default of its paper. That is the whole contract:
an objective of your own is such a function.

Reading order: :mod:`token_logps` (model → log-probabilities), :mod:`forget`, :mod:`retain`.
"""

from collections.abc import Callable

from torch import Tensor

from gru_unlearn.objectives.forget import ga, npo, simnpo, wga
from gru_unlearn.objectives.retain import kl, nll
from gru_unlearn.objectives.token_logps import IGNORE_INDEX, supervised_logits, token_logps

Objective = Callable[..., Tensor]

OBJECTIVES: dict[str, Objective] = {"ga": ga, "graddiff": ga, "wga": wga, "npo": npo, "simnpo": simnpo}
"""Name → forget objective. GradDiff is GA with a retain term, so it shares GA's function."""

DEFAULT_RETAIN_WEIGHT = {"graddiff": 1.0}
"""Objectives whose definition contains a retain term, with its weight; 0 for all others."""

RETAIN_LOSSES = ("nll", "kl")

__all__ = [
    "DEFAULT_RETAIN_WEIGHT",
    "IGNORE_INDEX",
    "OBJECTIVES",
    "RETAIN_LOSSES",
    "Objective",
    "ga",
    "kl",
    "nll",
    "npo",
    "simnpo",
    "supervised_logits",
    "token_logps",
    "wga",
]
