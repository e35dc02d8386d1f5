"""Gradient rectified unlearning inside any PyTorch training loop (arXiv 2503.09117, algorithm 1, and its family)."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gru_unlearn.geometry.blocks import Measures, group_names, layer_of, rectify_groups_, rectify_within_
from gru_unlearn.geometry.cone import cone, rectify_against_, subspace
from gru_unlearn.geometry.direction import Direction
from gru_unlearn.geometry.products import Vector, inner_product
from gru_unlearn.geometry.rectification import (
    RULES,
    SUBSPACE,
    Rectification,
    default_gradient_weight,
    parse_rectification,
)
from gru_unlearn.geometry.rules import Rule
from gru_unlearn.geometry.telemetry import StepTelemetry


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
        self.rectification = _resolved(rectification)
        if new_gradient_weight is None:
            new_gradient_weight = default_gradient_weight(self.rectification)
        if not 0 < new_gradient_weight <= 1:
            raise ValueError(f"new_gradient_weight must be in (0, 1], got {new_gradient_weight}")
        if max_grad_norm is not None and not 0 < max_grad_norm < math.inf:
            raise ValueError(f"max_grad_norm must be positive and finite, got {max_grad_norm}")
        if not 0 <= retain_step < math.inf:
            raise ValueError(f"retain_step must be finite and not negative, got {retain_step}")
        if retain_dtype is not None and not retain_dtype.is_floating_point:
            raise ValueError(f"retain_dtype must be a floating-point type, got {retain_dtype}")
        stepped = {id(p) for group in optimizer.param_groups for p in group["params"]}
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad and id(p) in stepped]
        if not named:
            raise ValueError("the optimizer holds no trainable parameter of this model")

        if self.rectification.granularity == "row" and any(_splits_rows(p) for _, p in named):
            raise ValueError("granularity row needs whole rows on each process: shard parameters along dimension 0")

        self.new_gradient_weight = 1.0 if self.rectification.holds_several else new_gradient_weight
        self.max_grad_norm = max_grad_norm
        self.retain_step = retain_step
        self.measure_change = measure_change
        self.rule = _rule(self.rectification)
        self._optimizer = optimizer
        self._replicas = replicas
        self._names = {p: name for name, p in named}
        self._params = list(self._names)
        self._groups = group_names(list(self._names.values()), self.rectification.granularity)
        self._new_direction = partial(Direction, retain_dtype, retain_device)
        self._memory = [self._new_direction()]  # retain directions, the newest last
        self._fresh = self._new_direction()  # this window's retain gradient, kept only for retain_step
        self._kept: dict[nn.Parameter, Tensor | None] | None = None  # p.grad set aside while inside retain()
        self._gradient_share = 0.0
        self._fold_scale = 1.0
        self._window_has_retain = False
        self._window_rectified = False
        self._measures: Measures | None = None
        self._before: list[Tensor] | None = None
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
            self._begin_window()
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

    def _begin_window(self) -> None:
        self._window_has_retain = True
        if self.rectification.holds_several:
            held = [direction for direction in self._memory if direction]
            self._memory = [*held[max(0, len(held) - self.rectification.memory + 1) :], self._new_direction()]
        else:
            self._memory[-1].decay(1 - self.new_gradient_weight)

    @torch.no_grad()
    def _fold(self, param: nn.Parameter) -> None:
        if self._kept is None or param.grad is None:
            return
        grad, param.grad = _aligned(param.grad, param), None
        if self._fold_scale != 1:
            grad.mul_(self._fold_scale)
        self._memory[-1].add(param, grad, self.new_gradient_weight)
        if self.retain_step:
            self._fresh.add(param, grad, 1.0)
        if self._gradient_share:
            kept, share = self._kept[param], self._gradient_share
            self._kept[param] = grad * share if kept is None else kept.add_(grad, alpha=share)

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
        for direction in (self._memory[-1], self._fresh):
            direction.settle()
            if self._replicas is not None and self._window_has_retain:
                direction.average(self._params, self._replicas)
        for p in self._params:
            if p.grad is not None:
                p.grad = _aligned(p.grad, p)
            elif any(p in direction for direction in self._memory):
                p.grad = torch.zeros_like(p)
        if self.rectification.space == "gradient":
            self._measures = self._rectify([p.grad for p in self._params])
        for p, fresh in zip(self._params, self._fresh.along(self._params), strict=True):
            if p.grad is not None and fresh is not None:
                p.grad.add_(fresh, alpha=self.retain_step)
        if self.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self._params, self.max_grad_norm)

    def _rectify(self, vector: Vector, target: Vector | None = None) -> Measures:
        """Rectify a vector against the retain directions: in place, or in what it does to ``target``."""
        chosen, directions = self.rectification, self._directions()
        if chosen.holds_several:
            solver, metric = (subspace, self._metric()) if chosen.rule == SUBSPACE else (cone, None)
            return rectify_against_(vector, directions, self._groups, solver, target, metric)
        if chosen.granularity in ("row", "element"):
            return rectify_within_(vector, directions[0], chosen.granularity, self.rule, target)
        return rectify_groups_(vector, directions[0], self._groups, self.rule, target)

    def _metric(self) -> Vector | None:
        """Adam's diagonal preconditioner, 1/(√v + ε), of the last step; None where the optimizer has none (yet)."""
        squares = [self._optimizer.state.get(p, {}).get("exp_avg_sq") for p in self._params]
        if all(v is None for v in squares):
            return None
        eps = {p: group.get("eps", 1e-8) for group in self._optimizer.param_groups for p in group["params"]}
        return [None if v is None else 1 / (v.sqrt() + eps[p]) for v, p in zip(squares, self._params, strict=True)]

    def _before_step(self, _optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if any(callable(value) for value in (*args, kwargs.get("closure"))):
            raise ValueError("a closure would recompute the gradients after they were rectified: step without one")
        self.rectify()
        self._position_before = self._retain_position() if self.measure_change else None
        if self.rectification.space == "update":
            self._before = [p.detach().clone() for p in self._params]

    @torch.no_grad()
    def _after_step(self, *_: Any) -> None:
        if self._before is not None:
            against = [before.sub_(p) for before, p in zip(self._before, self._params, strict=True)]  # −Δθ
            self._measures = self._rectify(against, target=self._params)
            self._before = None
        self._retain_change = None
        if self._position_before is not None:
            self._retain_change = self._retain_position() - self._position_before
            self._position_before = None
        self._window_has_retain = self._window_rectified = False
        self._fresh.clear()

    def _retain_position(self) -> Tensor:
        """⟨r, θ⟩ in float64, so that the difference across a step is exact enough without a copy of θ."""
        products = [inner_product(r, self._params, torch.float64) for r in self._directions()]
        return torch.stack(products).mean()

    def _directions(self) -> list[Vector]:
        """Each r in the parameters' order: sums must not depend on the order in which gradients first arrived."""
        return [direction.along(self._params) for direction in self._memory]

    @property
    def telemetry(self) -> StepTelemetry | None:
        """Measurements of the last rectified step, None before the first. Reading it waits for the device."""
        measured = self.measured()
        return None if measured is None else StepTelemetry.of(measured.tolist())

    def measured(self) -> Tensor | None:
        """What :attr:`telemetry` is made of, on the device: reading it later does not hold up the step."""
        if self._measures is None:
            return None
        sums = [part.sum() for part in self._measures[:4]] + [self._measures.conflict_share.mean()]
        change = torch.full_like(sums[0], math.nan) if self._retain_change is None else self._retain_change
        return torch.stack([value.to(sums[0].device, torch.float64) for value in (*sums, change)])

    def removed_share_by_layer(self) -> dict[str, float]:
        """1 − ‖g‖/‖u‖ of the last step for each layer; empty before the first. Reading it waits for the device."""
        if self._measures is None:
            return {}
        before, after = self._measures.forget_squared.tolist(), self._measures.rectified_squared.tolist()
        sums: dict[str, tuple[float, float]] = {}
        for name, u, g in zip(self._names.values(), before, after, strict=True):
            old = sums.get(layer_of(name), (0.0, 0.0))
            sums[layer_of(name)] = (old[0] + u, old[1] + g)
        return {layer: 1 - math.sqrt(g / u) if u > 0 else 0.0 for layer, (u, g) in sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """Retain directions by parameter name, and the settings they belong to: all that a resumed run needs.

        With memory K the names end in ``@0`` (the oldest) to ``@K−1``. To be taken between two steps.
        """
        state: dict[str, Any] = {
            "rectification": str(self.rectification),
            "new_gradient_weight": self.new_gradient_weight,
            "retain_direction": {
                self._key(p, place): r for place, direction in enumerate(self._memory) for p, r in direction.copies()
            },
        }
        if hasattr(self.rule, "state_dict"):
            state["rule"] = self.rule.state_dict()
        return state

    def _key(self, param: nn.Parameter, place: int) -> str:
        return f"{self._names[param]}@{place}" if self.rectification.holds_several else self._names[param]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`.

        Raises:
            ValueError: another γ or rectification, an unknown parameter name, or another shape.
        """
        for name, here in (
            ("new_gradient_weight", self.new_gradient_weight),
            ("rectification", str(self.rectification)),
        ):
            if state.get(name, here) != here:
                raise ValueError(f"saved with {name} {state[name]}, here it is {here}")
        by_key = {self._key(p, place): (p, place) for place in range(self.rectification.memory) for p in self._params}
        memory = [self._new_direction() for _ in range(self.rectification.memory)]
        for name, r in state["retain_direction"].items():
            if name not in by_key:
                raise ValueError(f"the saved retain direction has a parameter that is not trained here: {name}")
            param, place = by_key[name]
            if r.shape != param.shape:
                raise ValueError(f"{name}: saved shape {tuple(r.shape)}, here {tuple(param.shape)}")
            memory[place].put(param, _placed(r, param))
        self._memory = [direction for direction in memory if direction] or [self._new_direction()]
        if hasattr(self.rule, "load_state_dict"):
            self.rule.load_state_dict(state["rule"])
        self._fresh.clear()
        self._window_has_retain = self._window_rectified = False

    def close(self) -> None:
        """Take the hooks off the model and the optimizer; the retain direction is freed with the rectifier."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()


def _splits_rows(param: nn.Parameter) -> bool:
    """Whether a sharded matrix has its rows on several processes."""
    return any(placed.is_shard() and not placed.is_shard(0) for placed in getattr(param, "placements", ()))


def _aligned(grad: Tensor, param: nn.Parameter) -> Tensor:
    """The gradient, sharded as its parameter: autograd replicates some of a DTensor's, or leaves partial sums."""
    placements = getattr(param, "placements", None)
    if placements is None or grad.placements == placements:  # type: ignore[attr-defined]
        return grad
    return grad.redistribute(placements=placements)  # type: ignore[attr-defined]


def _placed(r: Tensor, param: nn.Parameter) -> Tensor:
    """r, sharded as its parameter is."""
    if hasattr(param, "device_mesh"):
        from torch.distributed.tensor import distribute_tensor  # noqa: PLC0415 - slow to import

        mesh, placements = param.device_mesh, param.placements  # type: ignore[attr-defined]
        return distribute_tensor(r.to(param.device), mesh, placements)
    return r


def _resolved(rectification: str | Rectification | Rule) -> Rectification:
    if isinstance(rectification, Rectification):
        return rectification
    if not isinstance(rectification, str):
        return Rectification(rectification)
    parsed = parse_rectification(rectification)
    if parsed is None:
        raise ValueError("rectification 'none' needs no rectifier: leave it away")
    return parsed


def _rule(rectification: Rectification) -> Rule:
    """The rule itself; that of a subspace is never asked."""
    if not isinstance(rectification.rule, str):
        return rectification.rule
    return RULES[rectification.rule]() if rectification.rule in RULES else RULES["gru"]()
