"""What ``gru attack`` is asked."""

from dataclasses import dataclass
from pathlib import Path

from gru_unlearn.common.options import check_ranges, option, parse_names
from gru_unlearn.models.manner_flags import MannerFlags

ATTACK_NAMES = ("relearning", "quantization", "sampling", "prompts", "membership")


@dataclass(frozen=True)
class AttackRequest(MannerFlags):
    """What to attack and how; the fields are flags of ``gru attack``. None: as in the run, or the default."""

    run: Path | None = option("Folder of a run: says all that flags do not.", None, argument=True, place="folder")
    model: str | None = option("The unlearned model: folder or hub id.", None, place="model")
    target: str | None = option("The model as it was before, likewise.", None, place="model")
    retain_model: str | None = option("Model that never saw the forget set: the zero line.", None, place="model")
    forget: str | None = option("File, FOLDER:NAME, hub data set, or builtin:forget.", None, place="rows")
    retain: str | None = option("What the model should still know; likewise.", None, place="rows")
    held_out: str | None = option("More such rows.", None, place="rows")
    unseen: str | None = option("Rows no model saw, for membership inference.", None, place="rows")
    unrelated: str = option("Rows to relearn from that have nothing to do with it.", "builtin:general", place="rows")
    attacks: tuple[str, ...] = option("Which ones, comma-separated.", ATTACK_NAMES, parse=parse_names)
    prefixes: Path | None = option("File of prefixes for questions, one a line.", None, place="file")
    samples: int = option("Sampled answers a question.", 8, least=1)
    temperature: float = option("Of sampling.", 1.0, above=0, finite=True)
    relearning_steps: int = option("Optimizer steps of relearning, eight rows each.", 60, least=1)
    relearning_learning_rate: float | None = option(
        "Its learning rate.", None, shown="the run's, else 1e-5", above=0, finite=True
    )
    batch_size: int = option("Answers per forward pass; changes rounding alone.", 32, least=1)
    max_rows: int = option("Most forget rows; more are sampled.", 100, least=1)
    dtype: str | None = option("auto, float32, bfloat16.", None, shown="the run's")
    trust_remote_code: bool | None = option("Run a model's own code.", None)
    seed: int = option("Seed of everything random.", 0)

    def __post_init__(self) -> None:
        check_ranges(self)

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
