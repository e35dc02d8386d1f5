"""What the result of a request must meet to be adopted."""

from dataclasses import dataclass

from gru_unlearn.common.options import check_ranges, option

UTILITY_FLOOR = "Least share of the first model's probability of kept answers."
FORGET_CEILING = "Most that may be left of its probability of forget answers."


@dataclass(frozen=True)
class Limits:
    """Shares of what the first model gave.

    Raises:
        UserError: one that is no share.
    """

    utility_floor: float = option(UTILITY_FLOOR, 0.9, above=0, most=1)
    """of held-out rows, or of retain rows where there are none"""
    forget_ceiling: float = option(FORGET_CEILING, 0.5, above=0, most=1)
    """of any forget set, this request's or a former one's"""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class ChangedLimits:
    """Limits that change; None: stays as it is."""

    utility_floor: float | None = option(UTILITY_FLOOR, None)
    forget_ceiling: float | None = option(FORGET_CEILING, None)

    @property
    def given(self) -> dict[str, float]:
        """Those that change."""
        return {name: value for name, value in vars(self).items() if value is not None}
