"""Forget objectives and retain losses: plain functions of what a model says about an answer. Imports torch only.

A loss names what it needs of the model in its parameters; the trainer computes just that and passes it by name:

- ``logps [B, T]``, ``mask [B, T]``: log-probability of each answer token, zero-padded, and which are tokens;
- ``reference [B]``: the answers' summed log-probability under the model as it was before unlearning;
- ``token_reference [B, T]``: the same per token, zero-padded like ``logps``;
- ``logits [N, V]``, ``targets [N]``: logits at the N supervised positions, row after row, and the tokens there;
- ``reference_logits [N, V]``: the same logits of the model before unlearning;
- ``anchor_logps [N, K+1]``, ``anchor_tokens [N, K]``: of that model the log-probabilities of its K likeliest tokens
  and, last, of all others together, and which tokens these are;
- ``alternative_logps [B, A]``, ``alternative_mask [B, A]``, ``alternative_reference [B]``: as the first three, for an
  alternative answer to the same prompt;
- ``hidden [M, H]``, ``reference_hidden [M, H]``: output of a chosen module at the M supervised positions, of the model
  and of the model before unlearning; ``direction [H]``: a random unit vector, the same throughout a run.

Any other parameter is a hyper-parameter and has a default, its paper's where there is one. The loss returns

- ``[B]``, one value per example: the trainer takes the mean over the examples of an accumulation window, or
- ``[B, T]``, one value per answer token, 0 where ``mask`` is false, or ``[1, N]``, the same without padding: the
  trainer takes the mean over the answer tokens of the window; or ``[1, M]``, one value per row of ``hidden``, with the
  mean over these: a text's first token is one of them, though nothing predicts it.

That is the whole contract: an objective of your own is such a function. :func:`inputs_of` and
:func:`hyperparameters_of` read it from the signature.

Reading order: :mod:`token_logps` (model → log-probabilities), :mod:`contract`, then the losses by what they look at:
:mod:`forget` and :mod:`retain`, :mod:`alternatives`, :mod:`distillation`, :mod:`activations`.
"""

from gru_unlearn.objectives.activations import rmu, rmu_retain
from gru_unlearn.objectives.alternatives import IDK_ANSWERS, dpo, idk
from gru_unlearn.objectives.contract import INPUTS, Objective, adds_up_tokens, hyperparameters_of, inputs_of
from gru_unlearn.objectives.distillation import ceu, undial, undial_anchor
from gru_unlearn.objectives.forget import ga, npo, satimp, simnpo, tnpo, wga
from gru_unlearn.objectives.retain import anchor, anchors_of, kl, nll
from gru_unlearn.objectives.token_logps import (
    IGNORE_INDEX,
    Supervised,
    gather_logps,
    supervised_logits,
    supervised_positions,
    token_logps,
)

OBJECTIVES: dict[str, Objective] = {
    "ga": ga,
    "graddiff": ga,
    "wga": wga,
    "satimp": satimp,
    "npo": npo,
    "tnpo": tnpo,
    "simnpo": simnpo,
    "dpo": dpo,
    "altpo": dpo,
    "idk": idk,
    "undial": undial,
    "undial-anchor": undial_anchor,
    "ceu": ceu,
    "rmu": rmu,
}
"""Name → forget objective. GradDiff is GA with a retain term and AltPO is DPO with one: they share the functions."""

DEFAULT_RETAIN_WEIGHT = {"graddiff": 1.0, "altpo": 1.0, "idk": 1.0, "rmu": 1200.0}
"""Objectives whose definition contains a retain term, with its weight; 0 for all others. RMU's belongs to its own
retain loss, a squared distance of activations, and to Zephyr-7B."""

RETAIN_LOSSES: dict[str, Objective] = {"nll": nll, "kl": kl, "anchor": anchor, "rmu": rmu_retain}
"""Name → retain loss. ``rmu`` is for the objective ``rmu`` only: it needs a module whose activations are compared."""

__all__ = [
    "DEFAULT_RETAIN_WEIGHT",
    "IDK_ANSWERS",
    "IGNORE_INDEX",
    "INPUTS",
    "OBJECTIVES",
    "RETAIN_LOSSES",
    "Objective",
    "Supervised",
    "adds_up_tokens",
    "anchor",
    "anchors_of",
    "ceu",
    "dpo",
    "ga",
    "gather_logps",
    "hyperparameters_of",
    "idk",
    "inputs_of",
    "kl",
    "nll",
    "npo",
    "rmu",
    "rmu_retain",
    "satimp",
    "simnpo",
    "supervised_logits",
    "supervised_positions",
    "tnpo",
    "token_logps",
    "undial",
    "undial_anchor",
    "wga",
]
