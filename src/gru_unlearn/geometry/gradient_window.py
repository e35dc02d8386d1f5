"""The state of an accumulation window: everything between two optimizer steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from torch import Tensor, nn

from gru_unlearn.geometry.sharding import align


class Stage(Enum):
    """Where a window stands. It may change between the first two many times; the third ends it."""

    COLLECTING = auto()
    """backward passes add to ``p.grad``"""
    RETAINING = auto()
    """inside ``retain()``: they go to the retain direction"""
    RECTIFIED = auto()
    """``p.grad`` has been rectified; what is left is the optimizer's step"""


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

    stage: Stage = Stage.COLLECTING
    has_retain: bool = False
    """whether a retain pass has begun"""
    retain_pass: RetainPass | None = None
    """the one that is open"""
    before: list[Tensor] | None = None
    """the parameters before the optimizer's step, where its displacement is going to be rectified"""
    position: Tensor | None = None
    """⟨r, θ⟩ before the optimizer's step, where its change is measured"""

    def check_may_retain(self) -> None:
        """Refuse a retain pass inside another one, or after the rectification (RuntimeError)."""
        if self.stage is Stage.RETAINING:
            raise RuntimeError("retain() is already open")
        if self.stage is Stage.RECTIFIED:
            raise RuntimeError("retain() after rectify(): take the optimizer step first")

    def open_retain(self, params: Sequence[nn.Parameter], scale: float, gradient_share: float) -> None:
        """Set ``p.grad`` aside."""
        self.stage = Stage.RETAINING
        self.retain_pass = RetainPass({p: p.grad for p in params}, scale, gradient_share)
        for p in params:
            p.grad = None

    def close_retain(self) -> None:
        """Put ``p.grad`` back, with its share."""
        if self.retain_pass is not None:
            for p, kept in self.retain_pass.kept.items():
                p.grad = kept
        self.retain_pass = None
        self.stage = Stage.COLLECTING

    def begin_rectifying(self) -> bool:
        """Whether there is something to do: once a window, and not inside ``retain()`` (RuntimeError)."""
        if self.stage is Stage.RETAINING:
            raise RuntimeError("rectify() inside retain()")
        first = self.stage is Stage.COLLECTING
        self.stage = Stage.RECTIFIED
        return first

    def start_anew(self) -> None:
        """The next window begins; a retain pass that is open stays open."""
        self.has_retain = False
        self.before = self.position = None
        if self.stage is Stage.RECTIFIED:
            self.stage = Stage.COLLECTING
