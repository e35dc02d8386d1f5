"""Float16 training with ``torch.amp.GradScaler``: gradients come multiplied by a scale, and some steps are skipped."""

from contextlib import suppress

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gru_unlearn.geometry.products import local


class LossScale:
    """What a rectifier must know of a scaler. Without one (None, or one that is not enabled) nothing is scaled.

    Args:
        scaler: the one that scales the losses and steps the optimizer.
    """

    def __init__(self, scaler: "torch.amp.GradScaler | None") -> None:
        self._scaler = scaler if scaler is not None and scaler.is_enabled() else None

    def __bool__(self) -> bool:
        return self._scaler is not None

    def now(self) -> float | None:
        """The factor on the losses of this window; None without a scaler. Waits for the device."""
        if self._scaler is None:
            return None
        return self._scaler.get_scale()

    def unscale_(self, optimizer: Optimizer) -> None:
        """``p.grad`` in the losses' own units, if it is not so already, as it is inside the scaler's step."""
        if self._scaler is None:
            return
        with suppress(RuntimeError):  # the only way to ask whether it was done
            self._scaler.unscale_(optimizer)


def refuse_scaled_gradients(optimizer: Optimizer) -> None:
    """A fused optimizer takes scaled gradients from the scaler, which nothing can be measured with.

    Raises:
        ValueError: that is about to happen.
    """
    if getattr(optimizer, "grad_scale", None) is not None:
        raise ValueError(
            "this optimizer (fused) is given gradients that are still scaled: call scaler.unscale_(optimizer), or "
            "rectifier.rectify(), before scaler.step(optimizer)"
        )


def spoil_(param: nn.Parameter, flaw: Tensor) -> None:
    """Add 0 or NaN to a number of ``p.grad``: a scaler that finds NaN there skips the step and lowers its scale."""
    assert param.grad is not None, "the caller has seen to it"
    part = local(param.grad).detach()
    if part.numel():
        part[(0,) * part.ndim].add_(flaw.to(part.device))
