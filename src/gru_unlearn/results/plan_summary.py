"""What ``gru plan`` leaves: the memory of every way to run, calculated and not measured."""

from dataclasses import dataclass
from typing import Literal

from gru_unlearn.results.file_model import FileModel, JobSummary

DIRECTION_BYTES = {"float32": 4, "bfloat16": 2}
"""Type that the retain direction may be kept in → bytes of a number."""


@dataclass(frozen=True, slots=True)
class Setup:
    """One way to run: what is trained, in which numbers, on how many devices, with which batches.

    ``rows`` are the forget rows of one pass on one device, ``retain_rows`` the retain rows beside them (None: as
    ``gru unlearn`` chooses), which pass in as many at a time as there are forget rows; ``length`` is in tokens, padding
    included, of which ``answer_share`` is supervised.
    """

    method: str = "full"
    precision: str = "mixed"
    devices: int = 1
    checkpointing: bool = False
    rectification: str = "gru"
    rows: int = 4
    retain_rows: int | None = None
    accumulation: int = 8
    length: int = 512
    answer_share: float = 0.5
    lora_r: int = 16
    optim: str = "adamw"
    retain_direction_dtype: str | None = None
    retain_direction_device: str | None = None
    robust: str = "none"
    anchor_rows: int = 0

    @property
    def tokens(self) -> int:
        """Of the larger pass."""
        return self.rows * self.length

    @property
    def trains_all(self) -> bool:
        """All weights, and not adapters."""
        return self.method == "full"

    def __str__(self) -> str:
        """``full, mixed, 8 devices, checkpointing``."""
        words = [self.method, self.precision, f"{self.devices} device{'s' * (self.devices > 1)}"]
        return ", ".join(words + ["checkpointing"] * self.checkpointing)


class Shape(FileModel):
    """What of a model decides its memory. All counts are numbers of parameters unless said otherwise."""

    parameters: int
    per_layer: int
    matrices: int
    """in the linear layers except the output head: what 4-bit loading compresses and adapters stand beside"""
    adapter_per_rank: int
    """of LoRA at rank 1 beside all those matrices: the sum of their inputs and outputs"""
    largest: int
    """of the largest tensor"""
    layers: int
    hidden: int
    attention: int
    """heads times their size"""
    key_value: int
    """the same of keys and values, which heads may share"""
    intermediate: int
    vocabulary: int


class PlannedModel(Shape):
    """A model's shape, and where it was found."""

    source: str


class Memory(FileModel):
    """Bytes on each device, by part, and on the host. Not all parts are alive at once, so ``peak`` may be less than
    their sum."""

    weights: int
    gradients: int
    optimizer: int
    retain_direction: int
    update_copy: int
    working_weights: int
    """copies of weights for computing: whole layers under FSDP2, bfloat16 copies under autocast, one 4-bit matrix"""
    activations: int
    logits: int
    peak: int
    host: int
    """main memory for each device: r where it is kept there, and anchors"""
    robust: int = 0
    """random signs for as long as the run takes, and a copy of the weights during a step"""


class PlannedSetup(Memory):
    """One way to run, and what it takes."""

    setup: Setup
    fits: bool


class PlanSummary(JobSummary):
    """Every way to run one model, and the smallest that fits."""

    command: Literal["plan"] = "plan"
    calculated: str
    model: PlannedModel
    devices: int
    device_bytes: int
    usable_share: float
    setups: list[PlannedSetup]
    smallest: Setup | None
    smallest_command: str | None
    versions: dict[str, str]
