"""Gradient rectified unlearning inside any PyTorch training loop (arXiv 2503.09117, algorithm 1)."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gru_unlearn.geometry.closed_form import Conflict, inner_product, measure_conflict, remove_conflict_


@dataclass(frozen=True, slots=True)
class StepTelemetry:
    """What one optimizer step did to the conflict between forgetting and retention."""

    inner_product: float
    """⟨u, r⟩ before rectification; negative means that the forget step would raise the retain loss."""
    forget_norm: float
    """‖u‖ before rectification and clipping"""
    retain_norm: float
    """‖r‖"""
    cosine: float
    """cos(u, r), 0 where either is zero"""
    rectified: bool
    """whether the two conflicted, so that the gradient was projected"""
    removed_share: float
    """1 − ‖g‖/‖u‖, between 0 (nothing taken away) and 1 (u pointed exactly against r)"""
    retain_change: float | None
    """⟨r, Δθ⟩: realised first-order change of the retain loss by the optimizer's displacement; below zero is good.
    None before the step has been taken, or when not measured."""


class GradientRectifier:
    """Rectifies every gradient just before the optimizer uses it.

    ::

        rectifier = GradientRectifier(model, optimizer)
        with rectifier.retain(): retain_loss.backward()      # folds into r, leaves p.grad as it was
        forget_loss.backward(); optimizer.step()             # rectified, then stepped

    An accumulation window is everything between two optimizer steps. Both gradients are sums of the backward
    passes of a window, so scale the losses (by 1/number of backward passes, say) the same way on both sides.
    At the step, r_t = γ · (retain gradient of this window) + (1 − γ) · r_{t−1} with r_0 = 0 and
    γ = ``new_gradient_weight``; a window without a retain pass uses the last r unchanged.

    The vectors span all parameters that require a gradient and that the optimizer holds. A parameter the forget
    loss did not reach counts as zero in u (its gradient is created if r reaches it); one that neither loss ever
    reaches keeps ``grad is None``. Cost: one buffer of the gradients' size, three inner products, one in-place update.

    Args:
        model: module whose ``named_parameters`` name the retain direction in ``state_dict``.
        optimizer: any ``torch.optim.Optimizer``; its ``step`` is hooked. Closures are refused.
        new_gradient_weight: γ in (0, 1], the weight of the newest retain gradient; 1 means no memory.
        max_grad_norm: clip the rectified gradient to this global norm. Clipping *before* the step hook would
            clip the wrong vector: leave it to the rectifier, or call :meth:`rectify` first and clip afterwards.
        retain_step: λ of "GRU + retain step": after the projection add λ · (retain gradient of this window).
            Needs a second buffer of the gradients' size.
        measure_change: measure ⟨r, Δθ⟩ at each step: two more passes over the parameters, in float64.

    Raises:
        ValueError: a setting out of range, or no trainable parameter of ``model`` in ``optimizer``.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        new_gradient_weight: float = 0.8,
        max_grad_norm: float | None = None,
        retain_step: float = 0.0,
        measure_change: bool = True,
    ) -> None:
        if not 0 < new_gradient_weight <= 1:
            raise ValueError(f"new_gradient_weight must be in (0, 1], got {new_gradient_weight}")
        if max_grad_norm is not None and not 0 < max_grad_norm < math.inf:
            raise ValueError(f"max_grad_norm must be positive and finite, got {max_grad_norm}")
        if not 0 <= retain_step < math.inf:
            raise ValueError(f"retain_step must be finite and not negative, got {retain_step}")
        stepped = {id(p) for group in optimizer.param_groups for p in group["params"]}
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad and id(p) in stepped]
        if not named:
            raise ValueError("the optimizer holds no trainable parameter of this model")

        self.new_gradient_weight = new_gradient_weight
        self.max_grad_norm = max_grad_norm
        self.retain_step = retain_step
        self.measure_change = measure_change
        self._names = {p: name for name, p in named}
        self._params = list(self._names)
        self._direction: dict[nn.Parameter, Tensor] = {}  # r, allocated at a parameter's first retain gradient
        self._fresh: dict[nn.Parameter, Tensor] = {}  # this window's retain gradient, kept only for retain_step
        self._kept: dict[nn.Parameter, Tensor | None] | None = None  # p.grad set aside while inside retain()
        self._gradient_share = 0.0
        self._fold_scale = 1.0
        self._window_has_retain = False
        self._window_rectified = False
        self._conflict: Conflict | None = None
        self._position_before: Tensor | None = None
        self._retain_change: Tensor | None = None
        self._hooks = [p.register_post_accumulate_grad_hook(self._fold) for p in self._params]
        self._hooks.append(optimizer.register_step_pre_hook(self._before_step))
        self._hooks.append(optimizer.register_step_post_hook(self._after_step))

    @contextmanager
    def retain(self, *, scale: float = 1.0, gradient_share: float = 0.0) -> Iterator[None]:
        """Send the backward passes inside this context to the retain direction instead of ``p.grad``.

        Each parameter's gradient is folded in and freed as soon as the backward pass has made it, so the retain
        gradient never exists as a whole.

        Args:
            scale: factor on the gradients, for instance 1/loss scale under float16 mixed precision.
            gradient_share: λ of a retain term *inside* the rectified objective: also add λ · gradient to ``p.grad``.

        Raises:
            RuntimeError: entered twice, or after this window's gradient was already rectified.
        """
        if self._kept is not None:
            raise RuntimeError("retain() is already open")
        if self._window_rectified:
            raise RuntimeError("retain() after rectify(): take the optimizer step first")
        if not self._window_has_retain:
            for r in self._direction.values():
                r.mul_(1 - self.new_gradient_weight)
            self._fresh.clear()
            self._window_has_retain = True
        self._kept = {p: p.grad for p in self._params}
        self._fold_scale, self._gradient_share = scale, gradient_share
        for p in self._params:
            p.grad = None
        try:
            yield
        finally:
            for p, kept in self._kept.items():
                p.grad = kept
            self._kept = None

    @torch.no_grad()
    def _fold(self, param: nn.Parameter) -> None:
        if self._kept is None or param.grad is None:
            return
        grad, param.grad = param.grad, None
        if self._fold_scale != 1:
            grad.mul_(self._fold_scale)
        _accumulate(self._direction, param, grad, self.new_gradient_weight)
        if self.retain_step:
            _accumulate(self._fresh, param, grad, 1.0)
        if self._gradient_share:
            kept = self._kept[param]
            self._kept[param] = (
                grad.mul_(self._gradient_share) if kept is None else kept.add_(grad, alpha=self._gradient_share)
            )

    @torch.no_grad()
    def rectify(self) -> None:
        """Project ``p.grad``, add the retain step if asked for, clip. ``optimizer.step`` calls it where you did not.

        Call it yourself where something must see or clip the rectified gradient before the step. At most once a
        window; further calls do nothing.
        """
        if self._window_rectified:
            return
        if self._kept is not None:
            raise RuntimeError("rectify() inside retain()")
        self._window_rectified = True
        for p in self._direction:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        grads, directions = [p.grad for p in self._params], self._directions()
        self._conflict = measure_conflict(grads, directions)
        remove_conflict_(grads, directions, self._conflict.coefficient)
        for p, fresh in self._fresh.items():
            if p.grad is not None:
                p.grad.add_(fresh, alpha=self.retain_step)
        if self.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self._params, self.max_grad_norm)

    def _before_step(self, _optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if any(callable(value) for value in (*args, kwargs.get("closure"))):
            raise ValueError("a closure would recompute the gradients after they were rectified: step without one")
        self.rectify()
        self._position_before = self._retain_position() if self.measure_change else None

    def _after_step(self, *_: Any) -> None:
        self._retain_change = None
        if self._position_before is not None:
            self._retain_change = self._retain_position() - self._position_before
            self._position_before = None
        self._window_has_retain = self._window_rectified = False

    def _retain_position(self) -> Tensor:
        """⟨r, θ⟩ in float64, so that the difference across a step is exact enough without a copy of θ."""
        return inner_product(self._directions(), self._params, torch.float64)

    def _directions(self) -> list[Tensor | None]:
        """r in the parameters' order: sums must not depend on the order in which gradients first arrived."""
        return [self._direction.get(p) for p in self._params]

    @property
    def telemetry(self) -> StepTelemetry | None:
        """Measurements of the last rectified step, None before the first. Reading it waits for the device."""
        if self._conflict is None:
            return None
        values = [v for v in (*self._conflict[:3], self._retain_change) if v is not None]
        device = self._conflict.dot.device
        dot, forget_norm, retain_norm, *change = torch.stack([v.to(device, torch.float64) for v in values]).tolist()
        norms = forget_norm * retain_norm
        cosine = max(-1.0, min(1.0, dot / norms)) if norms > 0 else 0.0
        rectified = dot < 0 and retain_norm > 0
        return StepTelemetry(
            inner_product=dot,
            forget_norm=forget_norm,
            retain_norm=retain_norm,
            cosine=cosine,
            rectified=rectified,
            removed_share=1 - math.sqrt(1 - cosine**2) if rectified else 0.0,
            retain_change=change[0] if change else None,
        )

    def state_dict(self) -> dict[str, Any]:
        """Retain direction by parameter name, and γ. Taken between steps, it is all that a resumed run needs."""
        return {
            "new_gradient_weight": self.new_gradient_weight,
            "retain_direction": {self._names[p]: r.detach().clone() for p, r in self._direction.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`.

        Raises:
            ValueError: another γ, an unknown parameter name, or another shape.
        """
        if state["new_gradient_weight"] != self.new_gradient_weight:
            raise ValueError(
                f"saved with new_gradient_weight {state['new_gradient_weight']}, here it is {self.new_gradient_weight}"
            )
        by_name = {name: p for p, name in self._names.items()}
        for name, r in state["retain_direction"].items():
            if name not in by_name:
                raise ValueError(f"the saved retain direction has a parameter that is not trained here: {name}")
            if r.shape != by_name[name].shape:
                raise ValueError(f"{name}: saved shape {tuple(r.shape)}, here {tuple(by_name[name].shape)}")
        self._direction = {
            p: state["retain_direction"][name].to(p.device, copy=True)
            for p, name in self._names.items()
            if name in state["retain_direction"]
        }
        self._fresh.clear()
        self._window_has_retain = self._window_rectified = False

    def close(self) -> None:
        """Take the hooks off the model and the optimizer; the retain direction is freed with the rectifier."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()


def _accumulate(buffers: dict[nn.Parameter, Tensor], param: nn.Parameter, grad: Tensor, weight: float) -> None:
    """buffers[param] += weight · grad; the first time, a new tensor, because autograd may own ``grad``'s memory."""
    if param in buffers:
        buffers[param].add_(grad, alpha=weight)
    else:
        buffers[param] = grad * weight
