"""What ``gru attack`` is asked."""

from dataclasses import dataclass
from pathlib import Path

from gru_unlearn.common.options import check_range, check_ranges, flag_of, option, parse_names
from gru_unlearn.errors import UserError
from gru_unlearn.models.manner_flags import TYPES_TO_LOAD_IN, MannerFlags

ATTACK_NAMES = ("relearning", "quantization", "sampling", "prompts", "inside", "membership")

BY_SIZE = "by the model's size"


def parse_numbers(text: str) -> tuple[float, ...]:
    """``"1, 3"`` → ``(1.0, 3.0)``, each once.

    Raises:
        UserError: something else stands among them.
    """
    try:
        return tuple(dict.fromkeys(map(float, parse_names(text))))
    except ValueError:
        raise UserError(f"numbers separated by commas are needed, such as 1,3,10; got {text!r}") from None


@dataclass(frozen=True)
class AttackRequest(MannerFlags):
    """What to attack and how; the fields are flags of ``gru attack``. None: as in the run, or the default."""

    run: Path | None = option("Folder of a run: says all that flags do not.", None, argument=True, place="folder")
    model: str | None = option("The unlearned model: folder or hub id.", None, place="model")
    target: str | None = option("The model as it was before, likewise.", None, place="model")
    retain_model: str | None = option("Model that never saw the forget set: the zero line.", None, place="model")
    base_model: str | None = option("What the target was fine-tuned from, to stand beside them.", None, place="model")
    forget: str | None = option("File, FOLDER:NAME, hub data set, or builtin:forget.", None, place="rows")
    retain: str | None = option("What the model should still know; likewise.", None, place="rows")
    held_out: str | None = option("More such rows.", None, place="rows")
    unseen: str | None = option("Rows no model saw, for membership inference.", None, place="rows")
    unrelated: str = option("Rows to relearn from that have nothing to do with it.", "builtin:general", place="rows")
    attacks: tuple[str, ...] = option("Which ones, comma-separated.", ATTACK_NAMES, parse=parse_names)
    quick: bool = option("Fewer rows, steps and forms of each attack: a first look.", False)
    prefixes: Path | None = option("File of prefixes for questions, one a line.", None, place="file")
    samples: int | None = option("Sampled answers a question.", None, shown=BY_SIZE, least=1)
    temperature: tuple[float, ...] | None = option(
        "Of sampling: one or several, comma-separated.", None, parse=parse_numbers, shown=BY_SIZE
    )
    relearning_steps: int | None = option("Optimizer steps of relearning.", None, shown=BY_SIZE, least=1)
    relearning_learning_rate: float | None = option(
        "Its learning rate.", None, shown="the run's, else 1e-5", above=0, finite=True
    )
    relearning_rates: tuple[float, ...] | None = option(
        "Multiples of that, each of which is tried.", None, parse=parse_numbers, shown=BY_SIZE
    )
    batch_size: int = option("Answers per forward pass; changes rounding alone.", 32, least=1)
    max_rows: int | None = option("Most forget rows; more are sampled.", None, shown=BY_SIZE, least=1)
    dtype: str | None = option("auto, float32, bfloat16.", None, shown="the run's", choices=TYPES_TO_LOAD_IN)
    trust_remote_code: bool | None = option("Run a model's own code.", None)
    seed: int = option("Seed of everything random.", 0)

    def __post_init__(self) -> None:
        check_ranges(self)
        for name in ("temperature", "relearning_rates"):
            for value in getattr(self, name) or ():
                check_range(flag_of(name), value, {"above": 0, "finite": True})
        for name in self.attacks:
            check_range("attack", name, {"choices": ATTACK_NAMES})
        if not self.attacks:
            raise UserError(f"no attack given: --attacks takes some of {','.join(ATTACK_NAMES)}")

    def check(self) -> None:
        """What a run would say is needed where none is named.

        Raises:
            UserError: it was not given.
        """
        for name in ("model", "target", "forget"):
            if self.run is None and not getattr(self, name):
                raise UserError(f"no {name} given: name a run (gru attack RUN), or pass --{name}")

    @property
    def rows(self) -> dict[str, str | None]:
        """Where the rows of each set are, by the set's name in files."""
        return {
            "forget": self.forget,
            "retain": self.retain,
            "held_out": self.held_out,
            "holdout": self.unseen,
            "unrelated": self.unrelated,
        }
