"""What ``gru export`` is asked."""

from dataclasses import dataclass
from pathlib import Path

from gru_unlearn.common.options import check_ranges, option


@dataclass(frozen=True)
class ExportRequest:
    """What to publish, and how; the fields are the flags of ``gru export``."""

    run: Path = option("Folder of a finished run.", argument=True, place="folder")
    out: Path = option("Folder to write; new or empty.")
    merge: bool = option("Merge LoRA adapters into their base model.", False)
    patch: bool = option("Write what the run changed as LoRA factors for the original, not a whole model.", False)
    patch_rank: int | None = option("Of its factors.", None, shown="by --patch-error", least=1)
    patch_error: float | None = option(
        "Most that the factors may leave out of the change, ‖ΔW − patch‖ / ‖ΔW‖.", None, shown="0.3", between=(0, 1)
    )
    patch_parts: str = option(
        "linear: layers alone, which vLLM and llama.cpp load, too; all: rows of token embeddings as well, for PEFT; "
        "auto: linear if that carries enough.",
        "auto",
        one_of=("auto", "linear", "all"),
    )
    dtype: str | None = option("Convert to bfloat16 or float32.", None, shown="as is")
    max_shard_size: str | None = option("Split the weights, such as 5GB.", None)
    base_model: str | None = option("Hub name of the model that the run started from, if it was a local copy.", None)
    license: str | None = option("Such as mit.", None, shown="as the base model's card says")
    evaluations: tuple[Path, ...] = option(
        "Folder by gru evaluate to show: of the run's model, its target, its retain model. Repeatable.",
        (),
        flags=("--evaluation",),
    )
    push: str | None = option("Upload to this new hub repository, OWNER/NAME.", None)
    private: bool = option("Make that repository private.", False)
    anyway: bool = option("Export a model that still knows the rows, too; its card says so.", False)
    trust_remote_code: bool = option("Run a model's own code.", False)

    def __post_init__(self) -> None:
        check_ranges(self)
