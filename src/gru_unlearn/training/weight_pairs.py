"""bfloat16 weights that are stepped as float32.

A bfloat16 number is the upper half of a float32. Steps of the usual learning rates change the lower half alone, so
that bfloat16 weights, stepped as they are, hardly move. Here each weight's lower half is kept beside it, 16 bits more.
Around the optimizer's step both halves are joined, so that the optimizer, its moments, and whatever hooks look at
weights there see float32 and lose nothing; between two steps the model computes with the upper halves.

Upper halves are not the nearest bfloat16 numbers: a checkpoint's weights stand on these, and each would have to move
half the way to its neighbour before the model saw anything of it. Instead each weight has a threshold of its own beyond
which it goes up, spread evenly over the lower half's range by its place in its tensor. Of many weights that moved by a
tenth of the way, a tenth have gone all of it: rounding is as unbiased as if it were random, and needs neither a
generator nor its state.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from gru_unlearn.common.notices import tell
from gru_unlearn.errors import UserError
from gru_unlearn.geometry.products import local

PAIRS_FILE = "lower_halves.safetensors"

_BITS = 16
_LOWER = (1 << _BITS) - 1

_PIECE = 1 << 22  # numbers at a time: their temporaries are few beside a tensor of any size


def split(whole: Tensor) -> tuple[Tensor, Tensor]:
    """float32 → bfloat16, rounded by each number's threshold, and as int16 the rest, of which :func:`join` makes the
    same float32 again. NaN stays NaN.
    """
    upper = torch.empty(whole.shape, dtype=torch.bfloat16, device=whole.device)
    lower = torch.empty(whole.shape, dtype=torch.int16, device=whole.device)
    pieces = zip(*map(_pieces, (whole, upper, lower)), strict=True)
    for number, (given, high, low) in enumerate(pieces):
        bits = given.view(torch.int32) + _thresholds(number * _PIECE, given)
        rounded = (bits >> _BITS).to(torch.int16).view(torch.bfloat16)
        high.copy_(torch.where(given.isfinite(), rounded, given.to(torch.bfloat16)))
        low.copy_(bits.to(torch.int16))
    return upper, lower


def join(upper: Tensor, lower: Tensor) -> Tensor:
    """The float32 of which :func:`split` made both."""
    whole = torch.empty(upper.shape, dtype=torch.float32, device=upper.device)
    pieces = zip(*map(_pieces, (whole, upper, lower)), strict=True)
    for number, (made, high, low) in enumerate(pieces):
        bits = high.view(torch.int16).to(torch.int32) << _BITS
        bits |= low.to(torch.int32) & _LOWER
        bits -= _thresholds(number * _PIECE, low)
        made.copy_(bits.view(torch.float32))
    return whole


def _pieces(values: Tensor) -> tuple[Tensor, ...]:
    return values.reshape(-1).split(_PIECE)


def _thresholds(start: int, like: Tensor) -> Tensor:
    """From 0 to 65535 for each number from a place on: int32, by a mixing of bits that is the same on every device."""
    place = torch.arange(start, start + like.numel(), dtype=torch.int32, device=like.device)
    for factor, shift in _MIXING:
        place = place * factor
        place ^= (place >> shift) & ((1 << (32 - shift)) - 1)
    return place & _LOWER


_MIXING = ((-1640531535, 15), (-2048144789, 13), (-1028477387, 16))
"""Odd factors, as signed 32-bit numbers, and shifts: the golden ratio's, and those of MurmurHash3's finalizer."""


def check_trained_types(model: nn.Module, *, bf16: bool | None = False) -> None:
    """Whether all trained weights are of a type that can be stepped, and are seen to move where ``bf16`` computes.

    Raises:
        UserError: some are float16.
    """
    if bf16 and stands_on_narrow_numbers(model):
        tell(
            "the float32 weights stand on numbers of 16 bits, their checkpoint's, and a computation in bfloat16 sees "
            "nothing of small steps from those: load them in bfloat16, which is stepped as float32 here (one process), "
            "or pass --bf16 false"
        )
    for name, param in model.named_parameters():
        if param.requires_grad and param.dtype == torch.float16:
            raise UserError(
                f"{name} is float16, in which gradients and steps overflow or vanish: load the model in "
                "float32 (dtype=torch.float32), or in bfloat16"
            )


def stands_on_narrow_numbers(model: nn.Module) -> bool:
    """Whether the largest trained tensor is float32 with numbers of 16 bits: loaded so, and not moved yet."""
    wide = [p for p in model.parameters() if p.requires_grad and p.dtype == torch.float32 and not p.is_meta]
    if not wide:
        return False
    largest = max(wide, key=lambda p: p.numel())
    bits = local(largest).detach().reshape(-1)[:_PIECE].contiguous().view(torch.int32)
    return bool((bits & _BELOW_FLOAT16 == 0).all() and bits.any())


_BELOW_FLOAT16 = (1 << 13) - 1
"""The bits of a float32 that neither float16 nor bfloat16 has."""


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

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Afterwards the lower halves are as they were; the upper ones are the caller's."""
        lower = dict(self._lower)
        yield
        self._lower = lower

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
