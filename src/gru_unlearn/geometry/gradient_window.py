"""The state of an accumulation window: everything between two optimizer steps."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from gru_unlearn.geometry.sharding import align


@dataclass(frozen=True, slots=True)
class RetainPass:
    """What there is only inside ``retain()``: ``p.grad`` set aside, and what becomes of the gradients that arrive."""

    kept: dict[nn.Parameter, Tensor | None]
    scale: float
    gradient_share: float

    def take(self, param: nn.Parameter, grad: Tensor) -> Tensor:
        """The gradient that has arrived, sharded as its parameter and scaled; the parameter lets go of it."""
        param.grad = None
        grad = align(grad, param)
        if self.scale != 1:
            grad.mul_(self.scale)
        return grad

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
        """Inside, ``p.grad`` is set aside; it comes back with its share. Raises as ``GradientRectifier.retain``."""
        if self.retain_pass is not None:
            raise RuntimeError("retain() is already open")
        if self.rectified:
            raise RuntimeError("retain() after rectify(): take the optimizer step first")
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

    def begin_rectifying(self) -> bool:
        """Whether there is something to do: once a window, and not inside ``retain()`` (RuntimeError)."""
        if self.retain_pass is not None:
            raise RuntimeError("rectify() inside retain()")
        first = not self.rectified
        self.rectified = True
        return first

    def start_anew(self) -> None:
        """The next window begins; a retain pass that is open stays open."""
        self.has_retain = self.rectified = False
        self.before = self.position = None
