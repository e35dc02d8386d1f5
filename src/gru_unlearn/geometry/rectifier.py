"""Gradient rectified unlearning inside any PyTorch training loop (arXiv 2503.09117, algorithm 1, and its family)."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gru_unlearn.geometry.attachment import Attachment, unwrapped
from gru_unlearn.geometry.blocks import Measures
from gru_unlearn.geometry.direction import Direction
from gru_unlearn.geometry.gradient_window import Window
from gru_unlearn.geometry.late_warning import LateWarning
from gru_unlearn.geometry.loss_scale import LossScale, refuse_scaled_gradients, spoil_
from gru_unlearn.geometry.products import local
from gru_unlearn.geometry.projections import choose_projection, turned_first
from gru_unlearn.geometry.rectification import Rectification, default_gradient_weight, resolve_rectification
from gru_unlearn.geometry.retain_memory import RetainMemory
from gru_unlearn.geometry.retain_metric import RetainMetric
from gru_unlearn.geometry.rules import Rule
from gru_unlearn.geometry.sharding import align, splits_rows
from gru_unlearn.geometry.telemetry import StepTelemetry, removed_by_layer, summed

_REFUSED = (
    "a retain gradient held NaN or infinity: it was left out of the retain direction, which stays as it was there "
    "(StepTelemetry.retain_refused says how often)"
)
_UNGUIDED_STEPS = 3


class GradientRectifier:
    """Rectifies every gradient just before the optimizer uses it.

    ::

        rectifier = GradientRectifier(model, optimizer)
        with rectifier.retain(): retain_loss.backward()      # folds into r, leaves p.grad as it was
        forget_loss.backward(); optimizer.step()             # rectified, then stepped

    An accumulation window is everything between two optimizer steps. Both gradients are sums of the backward
    passes of a window, so scale the losses (by 1/number of backward passes, say) the same way on both sides.
    At the step, r_t = γ · (retain gradient of this window) + (1 − γ) · r_{t−1} with r_0 = 0 and
    γ = ``new_gradient_weight``; a window without a retain pass uses the last r unchanged, so that the retain pass may
    be left out of most steps::

        if step % 4 == 0:
            with rectifier.retain(): retain_loss.backward()
        forget_loss.backward(); optimizer.step()

    A window may also end without a step. That is seen by itself where a scaler has skipped it, where the gradients are
    gone (``zero_grad()``) when the next pass begins, and where a gradient arrives after :meth:`rectify`; an exception
    inside :meth:`retain` ends it too; elsewhere call :meth:`reset`. Its retain gradient counts like that of any window,
    or not at all with ``keep_previous``.

    The vectors span all parameters that require a gradient and that the optimizer holds. A parameter the forget
    loss did not reach counts as zero in u (its gradient is created if r reaches it); one that neither loss ever
    reaches keeps ``grad is None``. Cost: one buffer of the gradients' size (K with memory K), three inner products,
    one in-place update; in update space also a copy of the parameters. The hooks do not keep the rectifier alive: it
    works for as long as somebody holds it, until :meth:`close`, or inside ``with GradientRectifier(...) as rectifier``.

    Args:
        model: module whose ``named_parameters`` name the retain direction in ``state_dict``.
        optimizer: any ``torch.optim.Optimizer``, also inside accelerate's wrapper; its ``step`` is hooked. Closures are
            refused.
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
            retain pass under the wrapper's ``no_sync()`` then. Sharded parameters (FSDP2) need nothing. Waits for the
            device, because the replicas have to agree on what they reached.
        scaler: the ``torch.amp.GradScaler`` that scales both losses, where there is one (accelerate's wrapper brings
            it along): r, ``retain_step`` and ``max_grad_norm`` are then in the losses' own units, and a step whose
            retain gradient overflowed is skipped like one whose forget gradient did.
        keep_previous: a window without a step leaves r exactly as it was before. Needs a second buffer of the
            gradients' size within a window.

    Raises:
        TypeError: no module, no optimizer, or a setting of another type.
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
        scaler: "torch.amp.GradScaler | None" = None,
        keep_previous: bool = False,
    ) -> None:
        chosen = resolve_rectification(rectification)
        optimizer, brought = unwrapped(optimizer)
        self._attachment = Attachment(model, optimizer)
        if new_gradient_weight is None:
            new_gradient_weight = default_gradient_weight(chosen)
        _check_numbers(new_gradient_weight, max_grad_norm, retain_step, retain_dtype)
        self._names = self._attachment.names
        self._params = list(self._names)
        if chosen.granularity == "row" and any(splits_rows(p) for p in self._params):
            raise ValueError("granularity row needs whole rows on each process: shard parameters along dimension 0")

        self.rectification = chosen
        self.new_gradient_weight = 1.0 if chosen.holds_several else new_gradient_weight
        self.max_grad_norm = max_grad_norm
        self.retain_step = retain_step
        self.measure_change = measure_change
        self._replicas = replicas

        new_direction = partial(Direction, retain_dtype, retain_device)
        self.rule, self._project = choose_projection(chosen, self._names, optimizer)
        self._metric: RetainMetric | None = None
        if chosen.metric:
            self._metric = RetainMetric(self._names, new_direction, optimizer, chosen.metric, chosen.temper)
            self._project = turned_first(self._metric, self._project)
        self._memory = RetainMemory(self._names, chosen, new_direction, keep_previous)
        self._fresh = new_direction()  # this window's retain gradient, kept only for retain_step
        self._window = Window()
        self._loss_scale = LossScale(scaler or brought)
        self._flaw: Tensor | None = None  # NaN that waits for a forget gradient to be added to
        self._refused = LateWarning(_REFUSED)
        self._refused_share: Tensor | None = None
        self._unguided_steps = 0
        self._measures: Measures | None = None  # of the last rectified step
        self._retain_change: Tensor | None = None
        self._attachment.hang(self, self._fold, self._before_step, self._after_step)

    def __repr__(self) -> str:
        """``GradientRectifier(gru/element/update, new_gradient_weight=0.4, 12 tensors)``."""
        weight, tensors = self.new_gradient_weight, len(self._params)
        return f"{type(self).__name__}({self.rectification}, new_gradient_weight={weight:g}, {tensors} tensors)"

    @contextmanager
    def retain(self, *, scale: float | None = None, gradient_share: float = 0.0) -> Iterator[None]:
        """Send the backward passes inside this context to the retain direction instead of ``p.grad``.

        Each parameter's gradient is folded in and freed as soon as the backward pass has made it, so the retain
        gradient never exists as a whole. One that holds NaN or infinity is left out.

        Args:
            scale: factor on what goes into r; by default 1, or 1/loss scale of the scaler.
            gradient_share: λ of a retain term *inside* the rectified objective: also add λ · gradient to ``p.grad``,
                in the units in which the backward pass made it.

        Raises:
            RuntimeError: entered twice, after :meth:`close`, or after this window's gradient was already rectified.
            ValueError: the optimizer has got parameters that the rectifier does not know.
        """
        loss_scale = self._begin_pass()
        if scale is None:
            scale = 1 / loss_scale if loss_scale else 1.0
        with self._window.retaining(self._params, scale, gradient_share):
            try:
                if not self._window.has_retain:
                    self._memory.begin_window(self.new_gradient_weight)
                self._window.has_retain, self._window.loss_scale = True, loss_scale
                yield
            except BaseException:
                self._memory.newest.spare()  # not whole: what it did not reach has no gradient of zero
                self._leave_window()
                raise
        if self._loss_scale:
            self._spoil_gradient()

    def _begin_pass(self) -> float | None:
        """Leave a window that ended without a step; the loss scale."""
        if self._window.retain_pass is not None:
            raise RuntimeError("retain() is already open")
        self._attachment.check()
        loss_scale = self._loss_scale.now()
        if self._window.was_left(self._params, loss_scale):
            self._leave_window()
        if self._window.rectified:
            raise RuntimeError("retain() after rectify(): take the optimizer step first, or call reset() without one")
        return loss_scale

    @torch.no_grad()
    def _fold(self, param: nn.Parameter) -> None:
        if param.grad is None:
            return
        retain_pass = self._window.retain_pass
        if retain_pass is None:
            self._note_forget_gradient(param)
            return
        grad = retain_pass.take(param, param.grad)
        weight = self.new_gradient_weight * retain_pass.scale
        self._window.taken.append(self._memory.newest.add(param, grad, weight))
        if self.retain_step:
            self._fresh.add(param, grad, retain_pass.scale)
        retain_pass.share(param, grad)

    def _note_forget_gradient(self, param: nn.Parameter) -> None:
        if self._window.rectified:  # what was rectified has not been stepped along
            self._leave_window()
        self._window.has_forget = True
        if self._flaw is not None:
            spoil_(param, self._flaw)
            self._flaw = None

    @torch.no_grad()
    def _spoil_gradient(self) -> None:
        """Let the scaler find a retain gradient that overflowed, in all replicas: NaN goes where it will look."""
        flaw = self.nan_if_refused()
        if self._replicas is not None:
            overflown = flaw.isnan().float()
            dist.all_reduce(overflown, group=self._replicas)
            flaw = flaw.masked_fill(overflown > 0, math.nan)
        there = next((p for p in self._params if p.grad is not None), None)
        if there is not None:
            spoil_(there, flaw)
        else:
            self._flaw = flaw

    def nan_if_refused(self) -> Tensor:
        """NaN if a retain gradient of this window was not finite, else 0: for whoever checks a step for NaN."""
        refused = self._window.refused_share(local(self._params[0]).device)
        return torch.zeros_like(refused).masked_fill(refused > 0, math.nan)

    def reset(self) -> None:
        """End the window without a step: the next pass begins a new one, and its gradient will be rectified.

        ``p.grad`` is left as it is, for ``zero_grad()`` to clear. See the class about what becomes of the window's
        retain gradient.

        Raises:
            RuntimeError: inside :meth:`retain`.
        """
        if self._window.retain_pass is not None:
            raise RuntimeError("reset() inside retain()")
        self._leave_window()

    def _leave_window(self) -> None:
        self._memory.take_back()
        self._start_anew()

    def _start_anew(self) -> None:
        self._memory.end_window()
        self._window.start_anew()
        self._fresh.clear()
        self._flaw = None

    @torch.no_grad()
    def rectify(self) -> None:
        """Project ``p.grad``, add the retain step if asked for, clip. ``optimizer.step`` calls it where you did not.

        Call it yourself where something must see or clip the rectified gradient before the step. At most once a
        window; further calls do nothing. With a scaler, it unscales the gradient first where that was not done yet.

        Raises:
            RuntimeError: inside :meth:`retain`, or after :meth:`close`.
            ValueError: the optimizer has got parameters that the rectifier does not know.
        """
        window = self._window
        if window.retain_pass is not None:
            raise RuntimeError("rectify() inside retain()")
        if window.rectified:
            return
        self._attachment.check()
        self._loss_scale.unscale_(self._attachment.optimizer)
        window.has_forget = window.has_forget or any(p.grad is not None for p in self._params)
        self._settle()
        self._complete_gradients()
        if self.rectification.space == "gradient":
            self._measures = self._project([p.grad for p in self._params], self._memory.vectors(), None)
        self._add_retain_step()
        if self.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self._params, self.max_grad_norm)
        self._refused_share = window.refused_share(local(self._params[0]).device)
        window.rectified = True

    def _settle(self) -> None:
        """This window's retain gradient is whole from here on, in all replicas."""
        averages = self._replicas is not None and self._retained_anywhere(self._replicas)
        for direction in (self._memory.newest, self._fresh):
            direction.settle()
            if self._replicas is not None and averages:
                direction.average(self._params, self._replicas)

    def _retained_anywhere(self, replicas: dist.ProcessGroup) -> bool:
        """Whether a replica had a retain pass in this window: then the others had one, too, with a gradient of zero."""
        here = torch.tensor(self._window.has_retain, dtype=torch.uint8, device=local(self._params[0]).device)
        dist.all_reduce(here, dist.ReduceOp.MAX, group=replicas)
        anywhere = bool(here.item())
        if anywhere and not self._window.has_retain:
            self._memory.begin_window(self.new_gradient_weight)
            self._window.has_retain = True
        return anywhere

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
        refuse_scaled_gradients(self._attachment.optimizer)
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
        self._tell_what_is_odd()
        self._start_anew()

    def _tell_what_is_odd(self) -> None:
        """What a loop of one's own may never look at; overflow under a scaler is not odd."""
        if self._refused_share is not None and not self._loss_scale:
            self._refused.look(self._refused_share)
        if any(self._memory):
            self._unguided_steps = 0
            return
        self._unguided_steps += 1
        if self._unguided_steps == _UNGUIDED_STEPS:
            warnings.warn(
                f"{_UNGUIDED_STEPS} steps without a retain gradient: nothing was rectified. Run the retain loss's "
                "backward pass inside rectifier.retain()",
                RuntimeWarning,
                stacklevel=5,
            )

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
        refused = self._refused_share
        assert refused is not None, "set with the measures"
        return summed(self._measures, self._retain_change, refused)

    def removed_share_by_layer(self) -> dict[str, float]:
        """1 − ‖g‖/‖u‖ of the last step for each layer; empty before the first. Reading it waits for the device."""
        if self._measures is None:
            return {}
        return removed_by_layer(self._measures, self._names.values())

    def state_dict(self) -> dict[str, Any]:
        """Retain directions by parameter name, and the settings they belong to: all that a resumed run needs.

        With memory K the names end in ``@0`` (the oldest) to ``@K−1``; what a metric keeps ends in ``@squares``. To
        be taken between two steps.
        """
        vectors = self._memory.copies()
        if self._metric is not None:
            vectors |= self._metric.copies()
        state = {**self._settings(), "retain_direction": vectors}
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
        vectors = state["retain_direction"]
        if self._metric is not None:
            vectors = self._metric.restore(vectors)
        self._memory.restore(vectors)
        if hasattr(self.rule, "load_state_dict"):
            self.rule.load_state_dict(state["rule"])
        self._start_anew()

    def _settings(self) -> dict[str, float | str]:
        """Those that a saved direction belongs to."""
        return {"rectification": str(self.rectification), "new_gradient_weight": self.new_gradient_weight}

    def close(self) -> None:
        """Take the hooks off the model and the optimizer; the retain direction is freed with the rectifier."""
        self._attachment.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_numbers(
    new_gradient_weight: float, max_grad_norm: float | None, retain_step: float, retain_dtype: torch.dtype | None
) -> None:
    numbers = {"new_gradient_weight": new_gradient_weight, "max_grad_norm": max_grad_norm, "retain_step": retain_step}
    for name, value in numbers.items():
        if value is not None and not isinstance(value, int | float):
            raise TypeError(f"{name} must be a number, got {value!r}")
    if retain_dtype is not None and not isinstance(retain_dtype, torch.dtype):
        raise TypeError(f"retain_dtype must be a torch.dtype, got {retain_dtype!r}")
    if not 0 < new_gradient_weight <= 1:
        raise ValueError(f"new_gradient_weight must be in (0, 1], got {new_gradient_weight}")
    if max_grad_norm is not None and not 0 < max_grad_norm < math.inf:
        raise ValueError(f"max_grad_norm must be positive and finite, got {max_grad_norm}")
    if not 0 <= retain_step < math.inf:
        raise ValueError(f"retain_step must be finite and not negative, got {retain_step}")
    if retain_dtype is not None and not retain_dtype.is_floating_point:
        raise ValueError(f"retain_dtype must be a floating-point type, got {retain_dtype}")
