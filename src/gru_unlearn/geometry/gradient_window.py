"""The state of an accumulation window: everything between two optimizer steps."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from gru_unlearn.geometry.sharding import align


@dataclass(frozen=True, slots=True)
class RetainPass:
    """What there is only inside ``retain()``: ``p.grad`` set aside, and what becomes of the gradients that arrive."""

    kept: dict[nn.Parameter, Tensor | None]
    scale: float
    gradient_share: float

    def take(self, param: nn.Parameter, grad: Tensor) -> Tensor:
        """The gradient that has arrived, sharded as its parameter; the parameter lets go of it."""
        param.grad = None
        return align(grad, param)

    def share(self, param: nn.Parameter, grad: Tensor) -> None:
        """Add the gradient's share to what was set aside."""
        kept = self.kept[param]
        if kept is not None and self.gradient_share:
            kept.add_(grad, alpha=self.gradient_share)
        elif self.gradient_share:
            self.kept[param] = grad * self.gradient_share


@dataclass(slots=True)
class Window:
    """What a rectifier knows of the present window, and of the optimizer's step that ends it."""

    has_retain: bool = False
    """whether a retain pass has begun"""
    has_forget: bool = False
    """whether a gradient has come into ``p.grad``"""
    loss_scale: float | None = None
    """that of the scaler in this window's retain passes"""
    taken: list[Tensor] = field(default_factory=list)
    """of each retain gradient, whether it was finite and hence went into r: bools on the device"""
    retain_pass: RetainPass | None = None
    """the one that is open"""
    rectified: bool = False
    """whether ``p.grad`` has been rectified, so that what is left is the optimizer's step"""
    before: list[Tensor] | None = None
    """the parameters before the optimizer's step, where its displacement is going to be rectified"""
    position: Tensor | None = None
    """⟨r, θ⟩ before the optimizer's step, where its change is measured"""

    @contextmanager
    def retaining(self, params: Sequence[nn.Parameter], scale: float, gradient_share: float) -> Iterator[None]:
        """Inside, ``p.grad`` is set aside; it comes back with its share."""
        kept = {p: p.grad for p in params}
        self.retain_pass = RetainPass(kept, scale, gradient_share)
        for p in params:
            p.grad = None
        try:
            yield
        finally:
            for p, grad in kept.items():
                p.grad = grad
            self.retain_pass = None

    def was_left(self, params: Sequence[nn.Parameter], loss_scale: float | None) -> bool:
        """Whether the loop has gone on without this window's step: its gradients are gone, or the scaler, which
        changes its scale between windows only, has changed it."""
        if self.loss_scale is not None and loss_scale != self.loss_scale:
            return True
        return self.has_forget and all(p.grad is None for p in params)

    def refused_share(self, device: torch.device) -> Tensor:
        """Of the retain gradients so far, the share that did not go into r: 0-dim, float64."""
        if not self.taken:
            return torch.zeros((), dtype=torch.float64, device=device)
        taken = torch.stack([whether.to(device) for whether in self.taken])
        return 1 - taken.double().mean()

    def start_anew(self) -> None:
        """The next window begins; a retain pass that is open stays open."""
        self.has_retain = self.has_forget = self.rectified = False
        self.loss_scale = self.before = self.position = None
        self.taken = []
