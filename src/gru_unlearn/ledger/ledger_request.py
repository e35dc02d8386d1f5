"""What the commands of ``gru requests`` are asked."""

from dataclasses import dataclass
from pathlib import Path

from gru_unlearn.common.options import check_ranges, option

UTILITY_FLOOR = "Least share of the first model's probability of kept answers."
FORGET_CEILING = "Most that may be left of its probability of forget answers."


@dataclass(frozen=True)
class Limits:
    """What the result of a request must meet to be adopted, each a share of what the first model gave.

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

    utility_floor: float | None = option(UTILITY_FLOOR, None, above=0, most=1)
    forget_ceiling: float | None = option(FORGET_CEILING, None, above=0, most=1)

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def given(self) -> dict[str, float]:
        """Those that change."""
        return {name: value for name, value in vars(self).items() if value is not None}


NOTHING_TO_CHANGE = "nothing to change: name a setting, such as --learning-rate 1e-5 or --utility-floor 0.8"


@dataclass(frozen=True)
class NewLedger:
    """Where a ledger is to be."""

    ledger: Path = option("Folder of the ledger.", argument=True)


@dataclass(frozen=True)
class LedgerFolder:
    """Which ledger."""

    ledger: Path = option("Folder of the ledger.", argument=True, place="ledger")


@dataclass(frozen=True)
class NewRequest(LedgerFolder):
    """A request that comes."""

    forget: str = option("Rows to forget: file, FOLDER:NAME, hub data set, builtin:forget[:8].", place="rows")
    id: str | None = option("Name of the request; default: request-NUMBER.", None)
    reason: str = option("Kept in the ledger as it is.", "")
    date: str | None = option("Day on which it came, 2025-03-31; default: today.", None)


@dataclass(frozen=True)
class NamedRequest(LedgerFolder):
    """A request that is there."""

    id: str = option("Id of the request.", argument=True)


@dataclass(frozen=True)
class WithdrawnRequest(NamedRequest):
    """A request that is taken back."""

    reason: str = option("Kept in the chain as it is.", "")


@dataclass(frozen=True)
class ShownRequest(LedgerFolder):
    """A request to be told of; None: all."""

    id: str | None = option("One request, fully.", None, argument=True)


@dataclass(frozen=True)
class ShownChain(LedgerFolder):
    """The chain, as a table or as it is hashed."""

    json: bool = option("The entries themselves, one a line, as they are hashed.", False)


@dataclass(frozen=True)
class Verification(LedgerFolder):
    """A ledger to be checked."""

    head: str | None = option("Hash of an entry, noted elsewhere, that must be there.", None)
