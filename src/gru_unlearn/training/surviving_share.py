"""How much of an optimizer's step is left once the weights' type has rounded it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gru_unlearn.common.sequences import evenly_spread
from gru_unlearn.geometry.products import local

_TENSORS, _NUMBERS = 32, 4096  # looked at: enough for a share, few enough to cost nothing


class RoundingProbe:
    """Measures ‖Δθ‖ of steps against what at most was lost in rounding, on a sample of the trained weights.

    What an optimizer asked for is not known, whatever it is, but how much can have been lost is: a weight that has a
    gradient and did not move was asked to move by less than half the distance to its neighbour in its type.

    Args:
        params: those that are stepped.
        optimizer: that steps them. What other hooks make of the weights after the step is not in the measure, if they
            are added later.

    Attributes:
        active: whether to measure the steps to come.
        share: of the last step that was measured: ‖Δθ‖ / √(‖Δθ‖² + lost²), a lower bound, as a 0-dim tensor. None
            before the first, or where the learning rate was 0.
    """

    def __init__(self, params: Sequence[nn.Parameter], optimizer: Optimizer) -> None:
        self.active = True
        self.share: Tensor | None = None
        self._params = evenly_spread(params, _TENSORS)
        self._before: list[Tensor] = []
        self._optimizer = optimizer
        self._hooks = [
            optimizer.register_step_pre_hook(lambda *_: self._look()),
            optimizer.register_step_post_hook(lambda *_: self._compare()),
        ]

    @torch.no_grad()
    def _look(self) -> None:
        self.share, self._before = None, []
        if self.active and any(group["lr"] for group in self._optimizer.param_groups):
            self._before = [_sample(p).clone() for p in self._params]

    @torch.no_grad()
    def _compare(self) -> None:
        if not self._before:
            return
        moved = [_sample(p).double() - old.double() for p, old in zip(self._params, self._before, strict=True)]
        lost = [_lost(*parts) for parts in zip(self._params, self._before, moved, strict=True)]
        made = torch.stack([part.square().sum() for part in moved]).sum()
        asked = made + torch.stack(lost).sum()
        self.share = torch.where(asked > 0, made / asked, 1.0).sqrt()
        self._before = []

    def close(self) -> None:
        """Take the hooks off the optimizer."""
        for hook in self._hooks:
            hook.remove()


def _sample(value: Tensor) -> Tensor:
    """Some of a tensor's numbers, evenly spread over this process's part of it."""
    flat = local(value.detach()).reshape(-1)
    return flat[:: max(1, flat.numel() // _NUMBERS)][:_NUMBERS]


def _lost(param: nn.Parameter, old: Tensor, moved: Tensor) -> Tensor:
    """The most that rounding can have taken from a step of these numbers: the sum of its squares."""
    if param.grad is None:
        return torch.zeros((), dtype=torch.float64, device=old.device)
    stayed = (moved == 0) & (_sample(param.grad) != 0)
    _, exponent = torch.frexp(old.float())
    half_spacing = torch.ldexp(torch.full_like(moved, torch.finfo(old.dtype).eps / 4), exponent)
    return (half_spacing * stayed).square().sum()
