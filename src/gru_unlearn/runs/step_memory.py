"""The first way of making a step that fits into a device's memory: all weights before adapters, no checkpointing before
checkpointing, many rows at once before few."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from gru_unlearn.capacity.footprint import HOLES, USABLE, predict
from gru_unlearn.capacity.free_room import free_bytes
from gru_unlearn.capacity.model_shape import model_config, shape_of
from gru_unlearn.common.notices import tell
from gru_unlearn.data import Example
from gru_unlearn.errors import UserError
from gru_unlearn.models.locating import holds_adapters
from gru_unlearn.models.stored_types import stored_types
from gru_unlearn.models.subject import Subject
from gru_unlearn.objectives import IGNORE_INDEX
from gru_unlearn.results.plan_summary import Setup, Shape
from gru_unlearn.runs.own_choice import left_to_run
from gru_unlearn.runs.recipe import Recipe
from gru_unlearn.runs.weight_type import is_narrow
from gru_unlearn.training.inputs import FROM_REFERENCE_MODEL
from gru_unlearn.training.method import Method

GIB = 2**30

UNKNOWN_BATCH = 4
"""Rows at once of a model whose memory cannot be calculated."""

CHECKPOINTING = ("activation_checkpointing", "gradient_checkpointing")
"""One setting, by its name and by the one that it used to have in transformers."""

OPTIMIZERS = {"adamw_bnb_8bit": "adamw_8bit", "adamw_8bit": "adamw_8bit", "paged_adamw_8bit": "paged_adamw_8bit"}
"""Setting → what a plan calls it; all others are counted as AdamW."""


@dataclass(frozen=True, slots=True)
class Footing:
    """How a step is made; the fields are settings."""

    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    activation_checkpointing: bool
    use_peft: bool


def footing_for(recipe: Recipe, model: Subject, sets: Mapping[str, Sequence[Example]], rows: int) -> Footing:
    """The first that fits; what is set stays as it is. Says so in one line where it is not all weights as they are.

    Args:
        recipe: what is set.
        model: the target.
        sets: the rows, tokenized.
        rows: forget rows that make a step, over all processes.
    """
    here = math.ceil(rows / recipe.config.world_size)
    ways = list(_ways(recipe, model, here))
    try:
        shape = shape_of(model_config(str(model.folder)))
    except UserError:
        return _few_at_once(ways)
    room = _Room(recipe, shape, _setup(recipe, model, sets))
    for way in ways:
        if room.fits(way):
            _tell_of_thrift(recipe, way, room)
            return way
    smallest = ways[-1]
    tell(
        f"even the smallest step, which is taken, needs {room.needed(smallest) / GIB:.1f} GiB, calculated, and "
        f"{room.free / GIB:.1f} GiB are free: it may fail for want of memory (gru plan says what fits)"
    )
    return smallest


# --- ways ------------------------------------------------------------------------------------------------------------


def _ways(recipe: Recipe, model: Subject, rows: int) -> Iterator[Footing]:
    """All that the settings leave open, the most wanted first."""
    for use_peft in _adapters(recipe, model):
        for checkpointing in _checkpointing(recipe):
            for batch, passes in _cuts(recipe, rows):
                yield Footing(batch, passes, checkpointing, use_peft)


def _adapters(recipe: Recipe, model: Subject) -> list[bool]:
    """Adapters are beside a whole model, and train no named part of it."""
    if not left_to_run(recipe, "use_peft"):
        return [recipe.use_peft]
    if holds_adapters(model.folder) or recipe.config.trainable_params is not None:
        return [False]
    return [False, True]


def _checkpointing(recipe: Recipe) -> list[bool]:
    if not all(left_to_run(recipe, name) for name in CHECKPOINTING):
        return [bool(recipe.config.activation_checkpointing)]
    return [False, True]


def _cuts(recipe: Recipe, rows: int) -> list[tuple[int, int]]:
    """Rows at once and passes of a step: even parts, from all rows at once down to one."""
    config = recipe.config
    batches = [math.ceil(rows / passes) for passes in range(1, rows + 1)]
    if not left_to_run(recipe, "per_device_train_batch_size"):
        batches = [config.per_device_train_batch_size]
    if left_to_run(recipe, "gradient_accumulation_steps"):
        return [(batch, math.ceil(rows / batch)) for batch in dict.fromkeys(batches)]
    passes = config.gradient_accumulation_steps
    most = math.ceil(rows / passes)
    if left_to_run(recipe, "per_device_train_batch_size"):
        batches = [batch for batch in dict.fromkeys(batches) if batch <= most]
    return [(batch, passes) for batch in batches]


def _few_at_once(ways: Sequence[Footing]) -> Footing:
    """Of a model of unknown shape."""
    return next((way for way in ways if way.per_device_train_batch_size <= UNKNOWN_BATCH), ways[0])


# --- memory ----------------------------------------------------------------------------------------------------------


class _Room:
    """What ways of running need, and what is free, in bytes.

    Args:
        recipe: for the device, and for the model that a loss may compare with.
        shape: of the model.
        setup: whose batch and method are still open.
    """

    def __init__(self, recipe: Recipe, shape: Shape, setup: Setup) -> None:
        self.shape, self.setup = shape, setup
        self.free = free_bytes(recipe.config.device)
        self.factor = 1 / USABLE
        if recipe.config.device.type == "cpu":
            self.factor = HOLES
        self.compares = bool(Method(recipe.config).needs & FROM_REFERENCE_MODEL)
        self.adapters = "lora"
        if recipe.load_in_4bit:
            self.adapters = "qlora"

    def needed(self, way: Footing) -> int:
        """At the peak, with what a device needs besides."""
        method = "full"
        if way.use_peft:
            method = self.adapters
        setup = replace(
            self.setup,
            method=method,
            checkpointing=way.activation_checkpointing,
            rows=way.per_device_train_batch_size,
            accumulation=way.gradient_accumulation_steps,
        )
        memory = predict(self.shape, setup)
        needed = memory.peak
        if self.compares and not way.use_peft:
            needed += memory.weights  # of the model before, which is kept beside it
        return int(self.factor * needed)

    def fits(self, way: Footing) -> bool:
        """Whether it is free."""
        return self.needed(way) <= self.free


def _setup(recipe: Recipe, model: Subject, sets: Mapping[str, Sequence[Example]]) -> Setup:
    config = recipe.config
    trained = [*sets["forget"], *sets.get("retain", ())]
    longest = max(len(row["input_ids"]) for row in trained)
    answer = max(sum(label != IGNORE_INDEX for label in row["labels"]) for row in trained)
    return Setup(
        precision=_precision(recipe, model),
        devices=config.world_size if config.fsdp else 1,
        rectification=config.rectification,
        length=longest,
        answer_share=answer / longest,
        lora_r=recipe.lora_r,
        optim=OPTIMIZERS.get(str(config.optim), "adamw"),
        retain_direction_dtype=config.retain_direction_dtype,
        retain_direction_device=config.retain_direction_device,
    )


def _precision(recipe: Recipe, model: Subject) -> str:
    """As a plan calls it."""
    if recipe.dtype == "bfloat16" or (recipe.dtype == "auto" and is_narrow(stored_types(model.folder))):
        return "bfloat16"
    if recipe.config.bf16:
        return "mixed"
    return "float32"


def _tell_of_thrift(recipe: Recipe, way: Footing, room: _Room) -> None:
    """Why not all weights are trained as they are, where the run itself chose that."""
    words = []
    if way.use_peft and not recipe.use_peft:
        words.append("LoRA adapters instead of all weights")
    if way.activation_checkpointing and not recipe.config.activation_checkpointing:
        words.append("gradient checkpointing")
    if words:
        tell(f"{' and '.join(words)}: all weights as they are would not fit in the {room.free / GIB:.1f} GiB left here")
