"""What ``gru tru`` is asked beside a recipe."""

from dataclasses import dataclass

from gru_unlearn.common.options import check_range, check_ranges, option
from gru_unlearn.errors import UserError

GROUPS = 2
"""Two groups, tensor by tensor, kept most in the comparison in docs/tru.md, with the fewest task models (three)."""
ALPHAS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 14.0, 16.0, 20.0, 24.0, 28.0, 32.0)


def parse_alphas(text: str) -> tuple[float, ...]:
    """``0.5,1,2`` as numbers.

    Raises:
        UserError: not numbers.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--alphas needs numbers with commas between them (0.5,1,2), got {text!r}") from None


@dataclass(frozen=True, slots=True)
class TruOptions:
    """What TRU needs to know besides a recipe.

    Raises:
        UserError: a value that cannot work.
    """

    groups: int = option("Blocks that the forget rows are cut into.", GROUPS, least=2)
    alphas: tuple[float, ...] = option(
        "Multiples of the task vector to try: 0.5,1,2,4.", ALPHAS, shown="", parse=parse_alphas
    )
    alpha: float | None = option("Take this multiple, whatever the others do.", None)
    granularity: str = option("Rectify each tensor, or the model as one vector.", "tensor", choices=("model", "tensor"))

    def __post_init__(self) -> None:
        check_ranges(self)
        for alpha in self.scanned:
            check_range("each alpha", alpha, {"finite": True, "above": 0})

    @property
    def scanned(self) -> list[float]:
        """Every α to try, once, in ascending order."""
        alphas = set(self.alphas)
        if self.alpha is not None:
            alphas.add(self.alpha)
        return sorted(alphas)
