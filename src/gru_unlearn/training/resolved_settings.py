"""What the settings of a run come to: each as it was set, or as method, optimizer and objective ask for."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from transformers.training_args import OptimizerNames

from gru_unlearn.geometry import Rectification, default_gradient_weight, parse_rectification
from gru_unlearn.objectives import DEFAULT_RETAIN_WEIGHT, IDK_ANSWERS, OBJECTIVES, adds_up_tokens
from gru_unlearn.robustness import Robust, parse_robust
from gru_unlearn.training.hyperparameters import HyperparameterValue, parse_hyperparameters
from gru_unlearn.training.on_its_own import CANDIDATES
from gru_unlearn.training.setting_limits import DIRECTION_DTYPES

ANCHOR_WEIGHT, ANCHOR_WEIGHT_OF_ANSWERS = 20.0, 300.0
"""Of the retain loss ``anchor`` beside a metric of retention; the latter beside objectives that add up the tokens of an
answer, whose gradients are longer by their number. It is zero where the model answers as it did, and of second order
near there: a few hundredths of a nat have to weigh as much as forgetting a token."""

KEEP_SQUARES = ("adamw_torch", "adamw_torch_fused", "adamw_torch_xla", "adamw_torch_npu_fused")
"""Optimizers whose squares a rectification may read (:mod:`gru_unlearn.geometry.preconditioner`)."""


class ResolvedSettings:
    """Properties of :class:`~gru_unlearn.training.config.UnlearningConfig`, read from its settings."""

    objective: str
    rectification: str
    robust: str
    new_gradient_weight: float | None
    retain_batch_size: int | None
    forget_candidates: int | None
    objective_args: dict[str, Any] | str | None
    retain_loss: str | None
    retain_weight: float | None
    retain_direction_dtype: str | None
    stop_below_kept: float | None
    stop_without_progress: int | None
    eval_on_start: bool
    per_device_train_batch_size: int
    optim: OptimizerNames | str
    on_its_own: bool

    @property
    def _optimizer(self) -> str:
        return str(getattr(self.optim, "value", self.optim))

    @property
    def _keeps_squares(self) -> bool:
        """Whether steps can be tempered."""
        return self._optimizer in KEEP_SQUARES

    @property
    def _rectifies_updates(self) -> bool:
        rectification = self.resolved_rectification
        return rectification is not None and rectification.space != "gradient"

    @property
    def _chosen_rectification(self) -> Rectification | None:
        """By its word; None for ``none``. The recommended one is not tempered where the optimizer keeps no squares."""
        chosen = parse_rectification(self.rectification)
        if chosen is None or self.rectification != "recommended" or self._keeps_squares:
            return chosen
        return replace(chosen, temper=0.0)

    @property
    def _has_metric(self) -> bool:
        """Whether steps are turned in the metric of retention, which takes nothing back: a retain term must."""
        chosen = self._chosen_rectification
        return chosen is not None and chosen.metric > 0

    @property
    def resolved_rectification(self) -> Rectification | None:
        """The setting's value; None for ``none``. A rule whose word leaves its weight open gets the retain term's."""
        chosen = self._chosen_rectification
        if chosen is None or not self.weighs_rule:
            return chosen
        return chosen.with_setting("weight", self.resolved_retain_weight)

    @property
    def weighs_rule(self) -> bool:
        """Whether the rectification's rule takes its weight from the retain term."""
        chosen = self._chosen_rectification
        if chosen is None or "weight" not in chosen.member.settings or "weight" in dict(chosen.settings):
            return False
        return self.retain_weight is not None or self.objective in DEFAULT_RETAIN_WEIGHT

    @property
    def resolved_robust(self) -> Robust | None:
        """The setting's value; None for ``none``. ``recommended`` is spectral alone where gradients are rectified."""
        if self.robust == "recommended" and not self._rectifies_updates:
            return parse_robust("spectral")
        return parse_robust(self.robust)

    @property
    def resolved_direction_dtype(self) -> torch.dtype | None:
        """The type that the retain direction is kept in; None: that of the gradients."""
        return DIRECTION_DTYPES.get(self.retain_direction_dtype or "")

    @property
    def resolved_gradient_weight(self) -> float:
        """γ: as set, or as published."""
        if self.new_gradient_weight is not None:
            return self.new_gradient_weight
        return default_gradient_weight(self.resolved_rectification or Rectification())

    @property
    def resolved_retain_batch_size(self) -> int:
        """Retain examples per device and backward: as set, or four times the forget examples where recommended."""
        factor = 4 if self.rectification == "recommended" else 1
        return self.retain_batch_size or factor * self.per_device_train_batch_size

    @property
    def resolved_forget_candidates(self) -> int:
        """Forget examples that are read for each one of a step: as set, or several where recommended."""
        by_itself = CANDIDATES if self.rectification == "recommended" else 1
        return self.forget_candidates or by_itself

    @property
    def resolved_retain_weight(self) -> float:
        """λ of the retain term: as set, or as the metric of retention asks for, or as the objective defines it."""
        if self.retain_weight is not None:
            return self.retain_weight
        if self._has_metric and self.resolved_retain_loss == "anchor":
            return ANCHOR_WEIGHT_OF_ANSWERS if adds_up_tokens(OBJECTIVES[self.objective]) else ANCHOR_WEIGHT
        return DEFAULT_RETAIN_WEIGHT.get(self.objective, 0.0)

    @property
    def resolved_stop_below_kept(self) -> float:
        """Share of their probability that rows which must stay have to keep; 0: none."""
        if self.stop_below_kept is not None:
            return self.stop_below_kept
        return 0.95 if self.on_its_own and self.eval_on_start else 0.0

    @property
    def resolved_stop_without_progress(self) -> int:
        """Evaluations without progress that a run may take; 0: any number."""
        if self.stop_without_progress is not None:
            return self.stop_without_progress
        return 6 if self.on_its_own else 0

    @property
    def retain_term_weight(self) -> float:
        """λ of the term added to the gradient: 0 beside a rule that descends on the retain loss itself."""
        chosen = self._chosen_rectification
        if chosen is not None and chosen.member.descends_on_retain:
            return 0.0
        return self.resolved_retain_weight

    @property
    def hyperparameters(self) -> Mapping[str, HyperparameterValue]:
        """Those of the objective that are set, by the names of its parameters."""
        return parse_hyperparameters(self.objective_args) or {}

    @property
    def resolved_retain_loss(self) -> str:
        """As set, or as the objective defines it, or as the metric of retention asks for."""
        if self.retain_loss:
            return self.retain_loss
        if self.objective == "rmu":
            return "rmu"
        if self._has_metric:
            return "anchor"
        return "nll"

    @property
    def fallback_alternatives(self) -> tuple[str, ...]:
        """Other answers for rows that bring none: AltPO is about answers from a file, the others can do without."""
        return () if self.objective == "altpo" else IDK_ANSWERS

    @property
    def needs_retain_set(self) -> bool:
        """Whether any part of the method looks at retain examples."""
        return self.rectification != "none" or self.resolved_retain_weight > 0
