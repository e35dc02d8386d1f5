"""bfloat16 weights that are stepped as float32.

A bfloat16 number is the upper half of a float32. Steps of the usual learning rates change the lower half alone, so
that bfloat16 weights, stepped as they are, hardly move. Here each weight's lower half is kept beside it, 16 bits more.
Around the optimizer's step both halves are joined, so that the optimizer, its moments, and whatever hooks look at
weights there see float32 and lose nothing; between two steps the model computes with the upper halves, rounded to
nearest.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from gru_unlearn.errors import UserError

PAIRS_FILE = "lower_halves.safetensors"

_HALF = 1 << 15
_BITS = 16


def split(whole: Tensor) -> tuple[Tensor, Tensor]:
    """float32 → its nearest bfloat16, and as int16 what :func:`join` needs to make the same float32 of it again.

    Halfway cases go away from zero, which keeps the difference of the bit patterns within 16 bits. NaN stays NaN.
    """
    bits = whole.view(torch.int32)
    upper = (bits + _HALF) >> _BITS
    lower = (bits - (upper << _BITS)).to(torch.int16)
    rounded = upper.to(torch.int16).view(torch.bfloat16)
    return torch.where(whole.isfinite(), rounded, whole.to(torch.bfloat16)), lower


def join(upper: Tensor, lower: Tensor) -> Tensor:
    """The float32 of which :func:`split` made both."""
    bits = (upper.view(torch.int16).to(torch.int32) << _BITS) + lower.to(torch.int32)
    return bits.view(torch.float32)


def check_trained_types(model: nn.Module) -> None:
    """Whether all trained weights are of a type that can be stepped.

    Raises:
        UserError: some are float16.
    """
    for name, param in model.named_parameters():
        if param.requires_grad and param.dtype == torch.float16:
            raise UserError(
                f"{name} is float16, in which gradients and steps overflow or vanish: load the model in "
                "float32 (dtype=torch.float32), or in bfloat16"
            )


class WeightPairs:
    """The lower halves of a model's trained bfloat16 weights. Empty, and without effect, for a model that has none.

    Args:
        model: where it will be trained, in one process.
    """

    def __init__(self, model: nn.Module) -> None:
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._params = {name: p for name, p in trained.items() if p.dtype == torch.bfloat16}
        self._lower: dict[str, Tensor] = {}  # none: zero, as when a model was loaded

    def __bool__(self) -> bool:
        return bool(self._params)

    def before_steps_of(self, optimizer: Optimizer) -> RemovableHandle:
        """Join before each step, from here on: of an optimizer's hooks those that are added later see float32."""
        return optimizer.register_step_pre_hook(lambda *_: self._join())

    def after_steps_of(self, optimizer: Optimizer) -> RemovableHandle:
        """Split after each step: hooks that were added earlier have seen float32."""
        return optimizer.register_step_post_hook(lambda *_: self._split())

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Inside, the weights are float32: an optimizer's state, which is loaded in their type, keeps its own."""
        self._join()
        try:
            yield
        finally:
            self._split()

    @torch.no_grad()
    def _join(self) -> None:
        """Tensor by tensor, so that never more than one exists twice."""
        for name, param in self._params.items():
            lower = self._lower.pop(name, None)
            whole = param.data.float() if lower is None else join(param.data, lower)
            _put(param, whole)

    @torch.no_grad()
    def _split(self) -> None:
        for name, param in self._params.items():
            upper, self._lower[name] = split(param.data)
            _put(param, upper)

    def save(self, folder: str | Path) -> None:
        """Write the lower halves into a checkpoint's folder."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        halves = {name: lower.cpu().contiguous() for name, lower in self._lower.items()}
        save_file(halves, str(Path(folder) / PAIRS_FILE))

    def load(self, folder: str | Path) -> None:
        """Restore what :meth:`save` wrote beside the upper halves."""
        found = load_file(str(Path(folder) / PAIRS_FILE))
        self._lower = {name: lower.to(self._params[name].device) for name, lower in found.items()}


def _put(param: nn.Parameter, values: Tensor) -> None:
    """Give a parameter values of another type, and its gradient the same type."""
    grad = param.grad
    param.grad = None
    param.data = values
    if grad is not None:
        param.grad = grad.to(values.dtype)
