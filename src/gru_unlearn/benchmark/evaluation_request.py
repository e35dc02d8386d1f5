"""What ``gru evaluate`` is asked."""

from dataclasses import dataclass

from gru_unlearn.common.options import check_ranges, option
from gru_unlearn.models.manner_flags import MannerFlags


@dataclass(frozen=True)
class EvaluationRequest(MannerFlags):
    """What to evaluate on what; the fields are flags of ``gru evaluate``."""

    model: str = option(
        "Model folder, .gguf file, hub id, pretrained:smollm2-135m, or builtin:target.", "", place="model", needed=True
    )
    suite: str = option("tofu, muse, rwku, lume, builtin, own (your rows), wmdp or mmlu.", "builtin")
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
    rouge_words: str | None = option("For published suites: words of any script, or ascii alone, as published.", None)
    limit: int | None = option("For wmdp and mmlu: only so many questions a task.", None, least=1)
    dtype: str = option("auto, float32, bfloat16 or float16.", "auto")
    trust_remote_code: bool = option("Run a model's own code.", False)

    def __post_init__(self) -> None:
        check_ranges(self)
