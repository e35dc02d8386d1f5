"""Robust steps inside any PyTorch training loop: what the optimizer does is changed before anybody rectifies it."""

import weakref
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from gru_unlearn.robustness.drift import random_signs
from gru_unlearn.robustness.robust import Robust, parse_robust
from gru_unlearn.robustness.spectral import components_of, damped


class Robustness:
    """Makes each step of an optimizer harder to undo.

    ::

        robustness = Robustness(model, optimizer)                   # first: its step is then rectified as a whole
        rectifier = GradientRectifier(model, optimizer, "gru/element/update")

    After the optimizer's step each matrix's part of it is damped (:mod:`spectral`), and then carried off
    (:mod:`drift`). Hooks of a step run in the order in which they are added. A rectifier in update space that is made
    later rectifies what came of both, and its guarantee ⟨Δθ, r⟩ ≤ 0 holds as without; made earlier, it would not hold.
    Gradients are left alone, so that guarantees about them hold in any order. Vectors are stepped as they
    are.

    Nothing is kept from step to step but random signs, which follow from the seed: there is no state to save. With
    ``spectral`` the weights exist twice during a step, with ``drift`` a byte more for each. The hooks do not keep the
    object alive: it works for as long as somebody holds it, until :meth:`close`, or inside ``with``.

    Args:
        model: module whose trained matrices are meant.
        optimizer: the one that steps; its wrappers (accelerate's) are seen through.
        robust: by default the recommended one; or a word such as ``spectral=0.25+drift=1``, see :mod:`robust`.
        seed: of the drift's direction.
        exact: damp by whole decompositions instead of the leading components alone.

    Raises:
        TypeError: no module or no optimizer.
        ValueError: an unknown part, ``none``, sharded parameters (FSDP2), or no trained matrix of ``model`` in
            ``optimizer``.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        robust: str | Robust = "recommended",
        *,
        seed: int = 0,
        exact: bool = False,
    ) -> None:
        self.robust = _resolve(robust)
        self.exact = exact
        self._optimizer = _unwrapped(optimizer)
        self._matrices = _trained_matrices(model, self._optimizer)
        self._before: list[Tensor] = []
        self._signs: list[Tensor] = []
        if self.robust.drift:
            signs = random_signs([p.shape for p in self._matrices], seed)
            self._signs = [sign.to(p.device) for sign, p in zip(signs, self._matrices, strict=True)]
        self._hooks = self._hang()

    def _hang(self) -> list[RemovableHandle]:
        me = weakref.ref(self)

        def before(*_: Any) -> None:
            if (alive := me()) is not None:
                alive._before_step()

        def after(*_: Any) -> None:
            if (alive := me()) is not None:
                alive._after_step()

        return [self._optimizer.register_step_pre_hook(before), self._optimizer.register_step_post_hook(after)]

    @torch.no_grad()
    def _before_step(self) -> None:
        if self.robust.spectral:
            self._before = [p.detach().clone() for p in self._matrices]

    @torch.no_grad()
    def _after_step(self) -> None:
        for old, p in zip(self._before, self._matrices, strict=False):  # none where nothing is damped
            self._damp(old, p)
        self._before = []
        if self._signs:
            self._carry_off()

    def _damp(self, old: Tensor, p: Tensor) -> None:
        """Replace a matrix's step; ``old`` is what it was before, and is used up."""
        count = components_of(p.shape, self.robust.spectral)
        if count == 0:  # of a single row or column
            return
        wide = torch.promote_types(p.dtype, torch.float32)
        moved = p.to(wide) - old.to(wide)
        p.copy_(old.to(wide) + damped(moved, count, exact=self.exact))

    def _carry_off(self) -> None:
        """All that has a gradient: what an optimizer does not step stays where it is."""
        for p, rate, signs in zip(self._matrices, self._rates(), self._signs, strict=True):
            if p.grad is not None:
                p.add_(signs, alpha=rate * self.robust.drift)

    def _rates(self) -> list[float]:
        """The learning rate of each matrix, as it is now."""
        rates: dict[nn.Parameter, float] = {}
        for group in self._optimizer.param_groups:
            rates |= dict.fromkeys(group["params"], float(group["lr"]))
        return [rates[p] for p in self._matrices]

    def close(self) -> None:
        """Take the hooks off the optimizer."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _resolve(robust: str | Robust) -> Robust:
    if isinstance(robust, Robust):
        return robust
    parsed = parse_robust(robust)
    if parsed is None:
        raise ValueError("robust 'none' needs no Robustness: leave it away")
    return parsed


def _unwrapped(optimizer: Any) -> Optimizer:
    while isinstance(getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = optimizer.optimizer
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
    return optimizer


def _trained_matrices(model: nn.Module, optimizer: Optimizer) -> list[nn.Parameter]:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    stepped: set[int] = set()
    for group in optimizer.param_groups:
        stepped.update(map(id, group["params"]))
    found = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2 and id(p) in stepped]
    if not found:
        raise ValueError("the optimizer holds no trainable matrix of this model: there is nothing to make robust")
    if any(hasattr(p, "placements") for p in found):
        raise ValueError("robustness looks at whole matrices: it does not work with sharded parameters (FSDP2)")
    return found
