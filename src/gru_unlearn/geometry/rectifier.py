"""Gradient rectified unlearning inside any PyTorch training loop (arXiv 2503.09117, algorithm 1, and its family)."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gru_unlearn.geometry.blocks import Measures
from gru_unlearn.geometry.direction import Direction
from gru_unlearn.geometry.gradient_window import Window
from gru_unlearn.geometry.projections import choose_projection
from gru_unlearn.geometry.rectification import Rectification, default_gradient_weight, resolve_rectification
from gru_unlearn.geometry.retain_memory import RetainMemory
from gru_unlearn.geometry.rules import Rule
from gru_unlearn.geometry.sharding import align, splits_rows
from gru_unlearn.geometry.telemetry import StepTelemetry, removed_by_layer, summed


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
    reaches keeps ``grad is None``. Cost: one buffer of the gradients' size (K with memory K), three inner products,
    one in-place update; in update space also a copy of the parameters.

    Args:
        model: module whose ``named_parameters`` name the retain direction in ``state_dict``.
        optimizer: any ``torch.optim.Optimizer``; its ``step`` is hooked. Closures are refused.
        rectification: by default the published algorithm; or one word like ``gru/element/update``, see
            :mod:`rectification`; or a rule of your own, see :mod:`rules`.
        new_gradient_weight: γ in (0, 1], the weight of the newest retain gradient; 1 means no smoothing; by default
            that of :func:`default_gradient_weight`. Of no effect where several retain gradients are held.
        max_grad_norm: clip the rectified gradient to this global norm. Clipping *before* the step hook would
            clip the wrong vector: leave it to the rectifier, or call :meth:`rectify` first and clip afterwards.
        retain_step: λ of "GRU + retain step": after the projection add λ · (retain gradient of this window).
            Needs a second buffer of the gradients' size.
        measure_change: measure ⟨r, Δθ⟩ at each step: two more passes over the parameters, in float64. May be switched
            from step to step.
        retain_dtype: store r in this type, such as ``torch.bfloat16``; by default in that of the gradients. How exact
            it then is stands in :mod:`direction`.
        retain_device: where to store r, such as ``"cpu"`` to leave a GPU's memory to other things; by default where
            the parameters are.
        replicas: process group of data-parallel replicas (DDP) over which r is averaged before it is used. Run the
            retain pass under the wrapper's ``no_sync()`` then. Sharded parameters (FSDP2) need nothing.

    Raises:
        ValueError: a setting out of range, or no trainable parameter of ``model`` in ``optimizer``.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        rectification: str | Rectification | Rule = "gru",
        *,
        new_gradient_weight: float | None = None,
        max_grad_norm: float | None = None,
        retain_step: float = 0.0,
        measure_change: bool = True,
        retain_dtype: torch.dtype | None = None,
        retain_device: torch.device | str | None = None,
        replicas: dist.ProcessGroup | None = None,
    ) -> None:
        chosen = resolve_rectification(rectification)
        if new_gradient_weight is None:
            new_gradient_weight = default_gradient_weight(chosen)
        _check_numbers(new_gradient_weight, max_grad_norm, retain_step, retain_dtype)
        self._names = _stepped_parameters(model, optimizer)
        self._params = list(self._names)
        if chosen.granularity == "row" and any(splits_rows(p) for p in self._params):
            raise ValueError("granularity row needs whole rows on each process: shard parameters along dimension 0")

        self.rectification = chosen
        self.new_gradient_weight = 1.0 if chosen.holds_several else new_gradient_weight
        self.max_grad_norm = max_grad_norm
        self.retain_step = retain_step
        self.measure_change = measure_change
        self.rule, self._project = choose_projection(chosen, self._names, optimizer)
        self._replicas = replicas

        new_direction = partial(Direction, retain_dtype, retain_device)
        self._memory = RetainMemory(self._names, chosen, new_direction)
        self._fresh = new_direction()  # this window's retain gradient, kept only for retain_step
        self._window = Window()
        self._measures: Measures | None = None  # of the last rectified step
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
        window = self._window
        with window.retaining(self._params, scale, gradient_share):
            if not window.has_retain:
                window.has_retain = True
                self._memory.begin_window(self.new_gradient_weight)
            yield

    @torch.no_grad()
    def _fold(self, param: nn.Parameter) -> None:
        retain_pass = self._window.retain_pass
        if retain_pass is None or param.grad is None:
            return
        grad = retain_pass.take(param, param.grad)
        self._memory.newest.add(param, grad, self.new_gradient_weight)
        if self.retain_step:
            self._fresh.add(param, grad, 1.0)
        retain_pass.share(param, grad)

    @torch.no_grad()
    def rectify(self) -> None:
        """Project ``p.grad``, add the retain step if asked for, clip. ``optimizer.step`` calls it where you did not.

        Call it yourself where something must see or clip the rectified gradient before the step. At most once a
        window; further calls do nothing.
        """
        if not self._window.begin_rectifying():
            return
        self._settle()
        self._complete_gradients()
        if self.rectification.space == "gradient":
            self._measures = self._project([p.grad for p in self._params], self._memory.vectors(), None)
        self._add_retain_step()
        if self.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self._params, self.max_grad_norm)

    def _settle(self) -> None:
        """This window's retain gradient is whole from here on, in all replicas."""
        for direction in (self._memory.newest, self._fresh):
            direction.settle()
            if self._replicas is not None and self._window.has_retain:
                direction.average(self._params, self._replicas)

    def _complete_gradients(self) -> None:
        """Gradients sharded as their parameters; zeros where only r reaches."""
        for p in self._params:
            if p.grad is not None:
                p.grad = align(p.grad, p)
            elif self._memory.reaches(p):
                p.grad = torch.zeros_like(p)

    def _add_retain_step(self) -> None:
        for p, fresh in zip(self._params, self._fresh.along(self._params), strict=True):
            if p.grad is not None and fresh is not None:
                p.grad.add_(fresh, alpha=self.retain_step)

    def _before_step(self, _optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, object]) -> None:
        if any(callable(value) for value in (*args, kwargs.get("closure"))):
            raise ValueError("a closure would recompute the gradients after they were rectified: step without one")
        self.rectify()
        self._window.position = self._memory.position() if self.measure_change else None
        if self.rectification.space == "update":
            self._window.before = [p.detach().clone() for p in self._params]

    @torch.no_grad()
    def _after_step(self, *_: Any) -> None:
        before = self._window.before
        if before is not None:
            for old, p in zip(before, self._params, strict=True):
                old.sub_(p)  # the copy of the parameters becomes −Δθ
            self._measures = self._project(before, self._memory.vectors(), self._params)
        self._retain_change = None
        if self._window.position is not None:
            self._retain_change = self._memory.position() - self._window.position
        self._window.start_anew()
        self._fresh.clear()

    @property
    def telemetry(self) -> StepTelemetry | None:
        """Measurements of the last rectified step, None before the first. Reading it waits for the device."""
        measured = self.measured()
        if measured is None:
            return None
        return StepTelemetry.of(measured.tolist())

    def measured(self) -> Tensor | None:
        """What :attr:`telemetry` is made of, on the device: reading it later does not hold up the step."""
        if self._measures is None:
            return None
        return summed(self._measures, self._retain_change)

    def removed_share_by_layer(self) -> dict[str, float]:
        """1 − ‖g‖/‖u‖ of the last step for each layer; empty before the first. Reading it waits for the device."""
        if self._measures is None:
            return {}
        return removed_by_layer(self._measures, self._names.values())

    def state_dict(self) -> dict[str, Any]:
        """Retain directions by parameter name, and the settings they belong to: all that a resumed run needs.

        With memory K the names end in ``@0`` (the oldest) to ``@K−1``. To be taken between two steps.
        """
        state = {**self._settings(), "retain_direction": self._memory.copies()}
        if hasattr(self.rule, "state_dict"):
            state["rule"] = self.rule.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`.

        Raises:
            ValueError: another γ or rectification, an unknown parameter name, or another shape.
        """
        here = self._settings()
        for name in ("new_gradient_weight", "rectification"):
            if state.get(name, here[name]) != here[name]:
                raise ValueError(f"saved with {name} {state[name]}, here it is {here[name]}")
        self._memory.restore(state["retain_direction"])
        if hasattr(self.rule, "load_state_dict"):
            self.rule.load_state_dict(state["rule"])
        self._fresh.clear()
        self._window.start_anew()

    def _settings(self) -> dict[str, float | str]:
        """Those that a saved direction belongs to."""
        return {"rectification": str(self.rectification), "new_gradient_weight": self.new_gradient_weight}

    def close(self) -> None:
        """Take the hooks off the model and the optimizer; the retain direction is freed with the rectifier."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()


def _check_numbers(
    new_gradient_weight: float, max_grad_norm: float | None, retain_step: float, retain_dtype: torch.dtype | None
) -> None:
    if not 0 < new_gradient_weight <= 1:
        raise ValueError(f"new_gradient_weight must be in (0, 1], got {new_gradient_weight}")
    if max_grad_norm is not None and not 0 < max_grad_norm < math.inf:
        raise ValueError(f"max_grad_norm must be positive and finite, got {max_grad_norm}")
    if not 0 <= retain_step < math.inf:
        raise ValueError(f"retain_step must be finite and not negative, got {retain_step}")
    if retain_dtype is not None and not retain_dtype.is_floating_point:
        raise ValueError(f"retain_dtype must be a floating-point type, got {retain_dtype}")


def _stepped_parameters(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[nn.Parameter, str]:
    """The trainable parameters of a model that its optimizer holds, with their names."""
    stepped: set[int] = set()
    for group in optimizer.param_groups:
        stepped.update(map(id, group["params"]))
    named = {p: name for name, p in model.named_parameters() if p.requires_grad and id(p) in stepped}
    if not named:
        raise ValueError("the optimizer holds no trainable parameter of this model")
    return named
