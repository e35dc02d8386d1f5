"""What ``gru finetune`` is asked beside the settings of a run."""

from dataclasses import dataclass

from gru_unlearn.common.options import check_ranges, option


@dataclass(frozen=True)
class TuningOptions:
    """Which rows are learnt, and how well.

    Raises:
        UserError: a value that cannot work.
    """

    train: tuple[str, ...] = option(
        "Rows to learn: as --forget of gru unlearn; more of them after +, or again.", (), place="joined rows"
    )
    without: tuple[str, ...] = option(
        "Leave out the training rows that stand here too: for a retain model.", (), place="joined rows"
    )
    stop_at_prob: float | None = option(
        "Stop once an evaluation finds the training rows' mean answer probability at this.", None, between=(0, 1)
    )

    merge: bool = option("With --use-peft: save whole weights, the adapters merged into them.", False)

    def __post_init__(self) -> None:
        check_ranges(self)
