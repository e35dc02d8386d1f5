"""What ``gru compare`` is asked beside a recipe."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gru_unlearn.common.options import check_ranges, option, parse_names
from gru_unlearn.errors import UserError, nearest
from gru_unlearn.runs.setting_names import OWN_RATE


def split(text: str, flag: str) -> tuple[str, ...]:
    """:func:`parse_names` of a flag's value.

    Raises:
        UserError: nothing in it.
    """
    found = parse_names(text)
    if not found:
        raise UserError(f"{flag} {text!r}: expected names or numbers with commas between them")
    return found


def parse_seeds(text: str) -> list[int]:
    """``"3"`` → ``[0, 1, 2]``; ``"0,7"`` → ``[0, 7]``; ``"7,"`` → ``[7]``.

    Raises:
        UserError: not whole numbers, none, or negative ones.
    """
    try:
        numbers = [int(word) for word in split(text, "--seeds")]
    except ValueError:
        numbers = [-1]
    seeds = numbers if "," in text else list(range(numbers[0]))
    if not seeds or min(seeds) < 0:
        raise UserError(f"--seeds {text}: expected how many seeds (5), or which (0,1,2)")
    return seeds


def parse_learning_rates(text: str, objectives: Sequence[str]) -> dict[str, list[float]]:
    """Objective → its grid, from one grid for all (``1e-4,2e-4``) or one for each (``npo=2e-4,4e-4;ga=5e-5``).

    Raises:
        UserError: no numbers, an objective that is not compared, or one without a grid.
    """
    if "=" not in text:
        return dict.fromkeys(objectives, _rates(text))
    parts = [part.partition("=") for part in text.split(";") if part.strip()]
    grids = {name.strip(): _rates(rates) for name, _, rates in parts}
    if unknown := [name for name in grids if name not in objectives]:
        raise UserError(f"--learning-rates: {unknown[0]!r} is not compared{nearest(unknown[0], objectives)}")
    if lacking := [name for name in objectives if name not in grids]:
        raise UserError(f"--learning-rates {text}: no learning rate for {', '.join(lacking)}")
    return grids


def _rates(text: str) -> list[float]:
    words = split(text, "--learning-rates")
    _, auto = OWN_RATE
    if auto in words:
        raise UserError(
            f"--learning-rates takes numbers, not {auto}: a run that finds its rate by itself chooses batches and "
            "length with it, and methods would not be compared on equal terms; try gru unlearn with a method to be "
            "compared, and pass numbers around the rate that it finds, such as 1e-4,3e-4"
        )
    try:
        return list(dict.fromkeys(float(word) for word in words))
    except ValueError:
        raise UserError(f"--learning-rates {text}: expected 1e-4,2e-4 or 'npo=1e-4,2e-4;ga=5e-5'") from None


@dataclass(frozen=True)
class ComparisonRequest:
    """What differs between the runs of a comparison, and how they are done."""

    objectives: str | None = option("Such as npo,ga; default: the recipe's.", None)
    rectifications: str = option(
        "Such as none,none@retain_weight=20,gru: settings of its own stand after @.", "none,gru"
    )
    robustness: str | None = option(
        "Each rectification with each of these: none,recommended; the setting robust of each run.", None
    )
    learning_rates: str | None = option(
        "1e-4,2e-4 or 'npo=2e-4,4e-4;ga=5e-5'; default: the recipe's, or 1e-4,3e-4 on built-in data.", None
    )
    seeds: str = option("How many (5: 0 to 4), or which (0,7).", "3")
    equal: str = option(
        "What is the same for all methods: rows (of a step), or the cost to f*: passes (of rows), time.",
        "rows",
        choices=("rows", "passes", "time"),
    )
    budget: float | None = option(
        "Row passes or seconds, for --equal passes or time; default: the least within which every method reaches f*.",
        None,
        above=0,
        finite=True,
    )
    against: str | None = option("Compare the methods with this one of them; default: none.", None)
    jobs: int = option("Runs at a time; each gets its share of the threads.", 1, least=1)
    suite: str | None = option(
        "Evaluate saved models: builtin, tofu, own or none. Default: builtin for built-in data.",
        None,
        choices=("none", "builtin", "tofu", "own"),
    )
    suite_data: str | None = option("Folder with the suite's files, or a hub data set.", None)
    forget_split: str = option("For --suite tofu: forget01, forget05 or forget10.", "forget10")
    output_dir: Path = option("Folder of the comparison.", Path("runs/compare"))
    dry_run: bool = option("Check every run, count them, write nothing.", False)
    overwrite_output_dir: bool = option("Discard the comparison in the output folder.", False)

    def __post_init__(self) -> None:
        check_ranges(self)
