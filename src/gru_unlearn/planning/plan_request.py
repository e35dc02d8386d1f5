"""What ``gru plan`` is asked."""

import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import ByteSize, TypeAdapter

from gru_unlearn.common.options import check_ranges, option
from gru_unlearn.common.places import BUILTIN, PRETRAINED, check_model_place
from gru_unlearn.errors import UserError
from gru_unlearn.results.plan_summary import DIRECTION_BYTES
from gru_unlearn.runs.setting_names import check_choice

PRESETS = ("llama-1b", "llama-8b", "llama-70b")
"""Names of shapes that need no model."""

OPTIMIZERS = ("adamw", "adamw_8bit", "paged_adamw_8bit")
"""``paged``: may be moved to the host where a GPU gets short of memory; counted as if it stayed."""


def parse_bytes(text: str) -> int:
    """``80GiB``, ``24 GB``, ``512MiB``, or a plain number of bytes.

    Raises:
        UserError: anything else.
    """
    # The whole text, because pydantic looks at its beginning alone.
    found = re.fullmatch(r"(\d*\.?\d+\s*(?:[KMGT]i?)?)B?", text.strip(), re.IGNORECASE)
    if not found:
        raise UserError(f"{text!r} is no amount of memory: expected something like 80GiB or 24GB")
    return TypeAdapter(ByteSize).validate_python(f"{found[1]}B")


@dataclass(frozen=True)
class PlanRequest:
    """Which model, on what, with which batches; the fields are the flags of ``gru plan``."""

    model: str = option("llama-1b, llama-8b, llama-70b, model folder, config.json, or hub id.", "llama-1b")
    gpus: int = option("How many there are.", 1, least=1)
    gpu_memory: str = option("Of each, such as 80GiB.", "80GiB")
    rectification: str = option("As for gru unlearn.", "gru")
    batch_size: int = option("Forget rows per device and backward pass.", 4, least=1)
    retain_batch_size: int | None = option("Retain rows; default: as gru unlearn's.", None, least=1)
    accumulation: int = option("Backward passes per step.", 8, least=1)
    max_length: int = option("Tokens of the longest row.", 512, least=1)
    answer_share: float = option("Share of the tokens that is answer, and so has logits.", 0.5, above=0, most=1)
    peft: bool = option("Adapters only.", False)
    lora_r: int = option("LoRA's rank.", 16, least=1)
    optim: str = option("adamw, or adamw_8bit or paged_adamw_8bit of bitsandbytes.", "adamw", one_of=OPTIMIZERS)
    retain_direction_dtype: str | None = option(
        "Type to keep r in: float32 or bfloat16; default: that of the gradients.", None, one_of=tuple(DIRECTION_BYTES)
    )
    retain_direction_device: str | None = option(
        "cpu: keep r in main memory; default: with the weights.", None, one_of=("cpu",)
    )
    robust: str = option("As for gru unlearn.", "none")
    anchor_rows: int = option(
        "Retain rows that the retain loss anchor (recommended has it) scores once and keeps in main memory.", 0, least=0
    )
    parts: bool = option("Show what the memory is for: weights, gradients, AdamW, r, ...", False)
    out: Path | None = option("Folder for summary.json.", None)
    overwrite_output_dir: bool = option("Discard the plan in the output folder.", False)

    def __post_init__(self) -> None:
        check_ranges(self)
        device_bytes = parse_bytes(self.gpu_memory)
        if device_bytes < 1:
            raise UserError(f"--gpu-memory must be at least 1, got {device_bytes}")
        check_choice("rectification", self.rectification)
        check_choice("robust", self.robust)

    def check(self) -> None:
        """Whether there may be such a model.

        Raises:
            UserError: there is none.
        """
        if self.model.startswith((BUILTIN, PRETRAINED)):
            check_model_place(self.model)
        elif self.model not in PRESETS and self.model.count("/") != 1 and not Path(self.model).expanduser().exists():
            raise UserError(f"--model {self.model}: no such file or folder; presets are {', '.join(PRESETS)}")
