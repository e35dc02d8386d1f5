"""A run's method: two losses, what they ask for, and the rectifier between their gradients."""

from collections.abc import Mapping

import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from gru_unlearn.errors import UserError
from gru_unlearn.geometry import GradientRectifier
from gru_unlearn.objectives import OBJECTIVES, RETAIN_LOSSES, Objective, inputs_of
from gru_unlearn.robustness import Robustness
from gru_unlearn.training.config import UnlearningConfig
from gru_unlearn.training.hyperparameters import check_hyperparameters
from gru_unlearn.training.inputs import passes_of


class Method:
    """What a run minimises on either side.

    Args:
        args: the run's settings.
        own: a forget objective instead of the one that the settings name. Their ``objective_args`` are its own then.

    Attributes:
        objective: the forget objective.
        asks: side (``forget``, ``retain``) → names of the inputs (:data:`gru_unlearn.objectives.INPUTS`) it needs.

    Raises:
        UserError: an objective that breaks the contract, or hyper-parameters that it does not have.
    """

    def __init__(self, args: UnlearningConfig, own: Objective | None = None) -> None:
        self.objective: Objective = own or OBJECTIVES[args.objective]
        self.asks = {"forget": _inputs_of(self.objective), "retain": frozenset[str]()}
        title = None if own else args.objective
        self._hyperparameters = check_hyperparameters(self.objective, args.hyperparameters, title)
        self._retain_loss = RETAIN_LOSSES[args.resolved_retain_loss]
        if args.needs_retain_set:
            self.asks["retain"] = _inputs_of(self._retain_loss)

    @property
    def needs(self) -> frozenset[str]:
        """The inputs of both sides."""
        return self.asks["forget"] | self.asks["retain"]

    def losses(self, side: str, inputs: Mapping[str, Tensor]) -> Tensor:
        """Those of one side, from what it asks for: per example, [B], or per token, two-dimensional."""
        if side == "retain":
            return self._retain_loss(**inputs)
        losses = self.objective(**inputs, **self._hyperparameters)
        if losses.ndim == 2 and "mask" in inputs:
            return losses * inputs["mask"]
        return losses


def rows_of_a_step(args: UnlearningConfig) -> int:
    """Passes of single rows that an optimizer step of one process takes, as far as its accumulation window is full."""
    asks = Method(args).asks
    forget = passes_of(asks["forget"]) * args.per_device_train_batch_size
    retain = passes_of(asks["retain"]) * args.resolved_retain_batch_size
    return args.gradient_accumulation_steps * (forget + retain)


def rectifier_for(
    args: UnlearningConfig, model: nn.Module, optimizer: Optimizer, replicas: "dist.ProcessGroup | None"
) -> GradientRectifier | None:
    """The rectifier that the settings describe, attached to a model and its optimizer; None where they want none.

    ``replicas``: processes that hold the same model.
    """
    rectification = args.resolved_rectification
    if rectification is None:
        return None
    return GradientRectifier(
        model,
        optimizer,
        rectification,
        new_gradient_weight=args.new_gradient_weight,
        retain_dtype=args.resolved_direction_dtype,
        retain_device=args.retain_direction_device,
        replicas=replicas,
        retain_step=args.retain_term_weight if args.retain_placement == "after" else 0.0,
    )


def robustness_for(args: UnlearningConfig, model: nn.Module, optimizer: Optimizer) -> Robustness | None:
    """What makes the steps robust that the settings describe, attached likewise; None where they want nothing."""
    robust = args.resolved_robust
    if robust is None:
        return None
    try:
        return Robustness(model, optimizer, robust, seed=args.seed)
    except ValueError as error:  # what is trained has no matrices, or is sharded
        raise UserError(str(error)) from None


def _inputs_of(objective: Objective) -> frozenset[str]:
    try:
        return inputs_of(objective)
    except ValueError as error:
        raise UserError(str(error)) from None
