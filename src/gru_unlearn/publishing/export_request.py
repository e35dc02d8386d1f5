"""What ``gru export`` is asked."""

import re
from dataclasses import dataclass
from pathlib import Path

from gru_unlearn.common.options import check_ranges, option
from gru_unlearn.errors import UserError

TYPES_TO_WRITE = ("bfloat16", "float32")
"""To which weights can be converted."""


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
    dtype: str | None = option("Convert to bfloat16 or float32.", None, shown="as is", choices=TYPES_TO_WRITE)
    max_shard_size: str | None = option("Split the weights, such as 5GB.", None)
    base_model: str | None = option("Hub name of the model that the run started from, if it was a local copy.", None)
    license: str | None = option("Such as mit.", None, shown="as the base model's card says")
    evaluations: tuple[Path, ...] = option(
        "Folder by gru evaluate to show: of the run's model, its target, its retain model. Repeatable.",
        (),
        flags=("--evaluation",),
        place="folder",
    )
    push: str | None = option("Upload to this new hub repository, OWNER/NAME.", None)
    private: bool = option("Make that repository private.", False)
    anyway: bool = option("Export a model that still knows the rows, too; its card says so.", False)
    trust_remote_code: bool = option("Run a model's own code.", False)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.max_shard_size and not re.fullmatch(r"[1-9]\d*[KMG]B", self.max_shard_size):
            raise UserError(f"--max-shard-size {self.max_shard_size}: expected a size such as 500MB or 5GB")
        self._check_patch()
        if self.private and not self.push:
            raise UserError("--private goes with --push: it makes the new repository private")

    def _check_patch(self) -> None:
        asked = self.patch_rank or self.patch_error or self.patch_parts != "auto"
        if asked and not self.patch:
            raise UserError("--patch-rank, --patch-error and --patch-parts go with --patch")
        if self.patch and (self.merge or self.dtype or self.max_shard_size):
            raise UserError("--patch writes what changed; --merge, --dtype and --max-shard-size are for whole models")
        if self.patch_rank and self.patch_error:
            raise UserError("--patch-rank chooses the rank, --patch-error lets it be chosen: pass one of them")

    def check(self) -> None:
        """Whether there is a place to write to.

        Raises:
            UserError: something is there already.
        """
        if self.out.is_file() or (self.out.is_dir() and any(self.out.iterdir())):
            raise UserError(f"--out {self.out} is there already and is not empty: name a new folder")
