"""What is remembered of the retain gradients: one smoothed r, or the gradients of the last windows themselves."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from gru_unlearn.geometry.direction import Direction
from gru_unlearn.geometry.named_directions import named_tensors, put_named
from gru_unlearn.geometry.products import Vector, inner_product
from gru_unlearn.geometry.rectification import Rectification


class RetainMemory:
    """The retain directions of a rectifier, the newest last.

    Args:
        names: the parameters that they span, with their names.
        rectification: says how many are held.
        new_direction: makes an empty direction.
        keeps_previous: hold what there was before the window, too, so that :meth:`take_back` can.
    """

    def __init__(
        self,
        names: Mapping[nn.Parameter, str],
        rectification: Rectification,
        new_direction: Callable[[], Direction],
        keeps_previous: bool = False,
    ) -> None:
        self._names = names
        self._params = list(names)
        self._places = rectification.memory
        self._holds_several = rectification.holds_several
        self._new_direction = new_direction
        self._held = [new_direction()]
        self._keeps_previous = keeps_previous
        self._previous: list[Direction] | None = None  # what was held before the window

    def __iter__(self) -> Iterator[Direction]:
        return iter(self._held)

    @property
    def newest(self) -> Direction:
        """The direction that this window's retain gradients are added to."""
        return self._held[-1]

    def begin_window(self, weight: float) -> None:
        """Make room for a new retain gradient of a weight γ: forget the oldest, or let r decay."""
        if not self._holds_several:
            self._previous = [self.newest.copy()] if self._keeps_previous else None
            self.newest.decay(1 - weight)
            return
        self._previous = self._held if self._keeps_previous else None
        held = [direction for direction in self._held if direction]
        surplus = max(0, len(held) - self._places + 1)
        self._held = [*held[surplus:], self._new_direction()]

    def end_window(self) -> None:
        """Its step has been taken: there is no way back."""
        self._previous = None

    def take_back(self) -> None:
        """Forget the window, if what was before is held; else its retain gradient stays, as that of any window."""
        if self._previous is not None:
            self._held, self._previous = self._previous, None

    def reaches(self, param: nn.Parameter) -> bool:
        """Whether any direction is not zero there."""
        return any(param in direction for direction in self._held)

    def vectors(self) -> list[Vector]:
        """Each r in the parameters' order: sums must not depend on the order in which gradients first arrived."""
        return [direction.along(self._params) for direction in self._held]

    def position(self) -> Tensor:
        """⟨r, θ⟩ in float64, so that the difference across a step is exact enough without a copy of θ."""
        products = [inner_product(r, self._params, torch.float64) for r in self.vectors()]
        return torch.stack(products).mean()

    def copies(self) -> dict[str, Tensor]:
        """All tensors by their parameter's name; with several directions ``@0`` (the oldest) to ``@K−1`` behind it."""
        return named_tensors(self._by_kind(self._held), self._names)

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Take in what :meth:`copies` gave.

        Raises:
            ValueError: an unknown parameter name, or another shape.
        """
        held = [self._new_direction() for _ in range(self._places)]
        put_named(saved, self._by_kind(held), self._names)
        self._held = [direction for direction in held if direction] or [self._new_direction()]
        self._previous = None

    def _by_kind(self, held: Sequence[Direction]) -> dict[str, Direction]:
        if self._holds_several:
            return {f"@{place}": direction for place, direction in enumerate(held)}
        return {"": held[0]}
