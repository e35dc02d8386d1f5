"""What ``gru tru`` is asked beside a recipe."""

import math
from dataclasses import dataclass

from gru_unlearn.errors import UserError, nearest
from gru_unlearn.task_vectors import GRANULARITIES

GROUPS = 2
"""Two groups, tensor by tensor, kept most in the comparison in docs/tru.md, with the fewest task models (three)."""
ALPHAS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 14.0, 16.0, 20.0, 24.0, 28.0, 32.0)


@dataclass(frozen=True, slots=True)
class TruOptions:
    """What TRU needs to know besides a recipe.

    Raises:
        UserError: a value that cannot work.
    """

    groups: int = GROUPS
    """G"""
    alphas: tuple[float, ...] = ALPHAS
    """α to try, in ascending order"""
    alpha: float | None = None
    """take this α, whatever the others do"""
    granularity: str = "tensor"
    """one projection for each tensor, or one over the whole model"""

    def __post_init__(self) -> None:
        if self.groups < 2:
            raise UserError(f"--groups must be at least 2, got {self.groups}")
        for alpha in self._given:
            if not (math.isfinite(alpha) and alpha > 0):
                raise UserError(f"each alpha must be finite and above 0, got {alpha}")
        if self.granularity not in GRANULARITIES:
            raise UserError(f"unknown granularity {self.granularity!r}{nearest(self.granularity, GRANULARITIES)}")

    @property
    def scanned(self) -> list[float]:
        """Every α to try, once, in ascending order."""
        return sorted({*self._given})

    @property
    def _given(self) -> tuple[float, ...]:
        return self.alphas if self.alpha is None else (*self.alphas, self.alpha)
