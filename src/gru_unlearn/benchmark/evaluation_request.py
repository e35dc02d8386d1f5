"""What ``gru evaluate`` is asked."""

from dataclasses import dataclass

from gru_unlearn.common.options import check_ranges, flag_of, option
from gru_unlearn.errors import UserError
from gru_unlearn.models.manner_flags import TYPES_TO_LOAD_IN, MannerFlags

PUBLISHED = ("tofu", "muse", "rwku", "lume")
"""Suites of other people's rows that are scored here."""
OF_THE_HARNESS = ("wmdp", "mmlu")
"""Suites of lm-evaluation-harness."""
SUITES = (*PUBLISHED, "builtin", "own", *OF_THE_HARNESS)

BELONGS_TO = {
    "data": (*PUBLISHED, "builtin", *OF_THE_HARNESS),
    "forget": ("own",),
    "retain": ("own",),
    "unseen": ("own",),
    "unseen_split": ("tofu",),
    "about": ("rwku",),
    "fold": ("lume",),
    "rouge_words": PUBLISHED,
    "retain_model": (*PUBLISHED, "builtin", "own"),
    "limit": OF_THE_HARNESS,
}
"""Flags that only some suites know, so that none is ignored silently."""

NEEDED_BY = {
    "muse": ("data", "a folder in MUSE's layout or muse-bench/MUSE-News"),
    "lume": ("data", "a folder in LUME's layout or SemEval's data set on the hub"),
    "own": ("forget", "a file of your rows (and better also --retain)"),
}
"""Suite → the flag that it cannot do without, and what stands there."""

COUNTED_AS_WORDS = ("any", "ascii")
"""What ROUGE may count as a word."""


@dataclass(frozen=True)
class EvaluationRequest(MannerFlags):
    """What to evaluate on what; the fields are flags of ``gru evaluate``."""

    model: str = option(
        "Model folder, .gguf file, hub id, pretrained:smollm2-135m, or builtin:target.", "", place="model", needed=True
    )
    suite: str = option("tofu, muse, rwku, lume, builtin, own (your rows), wmdp or mmlu.", "builtin", choices=SUITES)
    data: str | None = option("Folder with the suite's files, or a hub data set.", None)
    forget_split: str = option("TOFU's forget01, forget05 or forget10.", "forget10")
    unseen_split: str | None = option("For TOFU: rows no model saw, to attack with.", None)
    about: str | None = option("For RWKU: only the rows about this person.", None)
    fold: str | None = option("For LUME: SemEval's train or validation files.", None)
    forget: str | None = option("For --suite own: the rows to forget.", None, place="rows")
    retain: str | None = option("For --suite own: rows that must stay.", None, place="rows")
    unseen: str | None = option("For --suite own: rows no model saw, to attack with.", None, place="rows")
    retain_model: str | None = option("Model that never saw the forget set.", None, place="model")
    batch_size: int = option("Answers per forward pass; changes no result.", 32, least=1)
    rouge_words: str | None = option(
        "For published suites: words of any script, or ascii alone, as published.", None, choices=COUNTED_AS_WORDS
    )
    limit: int | None = option("For wmdp and mmlu: only so many questions a task.", None, least=1)
    dtype: str = option("auto, float32, bfloat16 or float16.", "auto", choices=TYPES_TO_LOAD_IN)
    trust_remote_code: bool = option("Run a model's own code.", False)

    def __post_init__(self) -> None:
        check_ranges(self)

    def check(self) -> None:
        """Whether the flags go with the suite.

        Raises:
            UserError: they do not, or one lacks.
        """
        if not self.model:
            raise UserError("no model given: pass --model")
        for name, known in BELONGS_TO.items():
            if getattr(self, name) is not None and self.suite not in known:
                known_to = " or ".join(known)
                raise UserError(f"{flag_of(name)} belongs to --suite {known_to}, not to --suite {self.suite}")
        self.check_needed()

    def check_needed(self) -> None:
        """Whether the suite has what it cannot do without.

        Raises:
            UserError: it has not.
        """
        needed, what = NEEDED_BY.get(self.suite, ("suite", ""))
        if not getattr(self, needed):
            raise UserError(f"--suite {self.suite} needs {flag_of(needed)}, {what}")
