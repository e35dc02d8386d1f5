"""``gru plan``: which ways of running fit on which devices, and the command of the smallest.

The memory of each is calculated in :mod:`footprint`. A set-up counts as fitting up to :data:`USABLE` of a device.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from gru_unlearn.capacity.footprint import USABLE, fits, predict
from gru_unlearn.capacity.forward_memory import PRECISIONS
from gru_unlearn.capacity.model_shape import PRESETS, model_config, shape_of
from gru_unlearn.common.versions import versions
from gru_unlearn.errors import UserError
from gru_unlearn.geometry import parse_rectification
from gru_unlearn.planning.plan_request import PlanRequest, parse_bytes
from gru_unlearn.results.plan_summary import PlannedModel, PlannedSetup, PlanSummary, Setup, Shape
from gru_unlearn.results.run_folder import RunFolder
from gru_unlearn.robustness import parse_robust

BY_PREFERENCE = (("full", "mixed"), ("full", "bfloat16"), ("lora", "bfloat16"), ("qlora", "bfloat16"))
"""bfloat16 weights come after mixed precision: they are for where memory does not allow float32."""

IN_HALVES = ("full", "bfloat16")
"""Weights that are trained in bfloat16, with their lower halves beside them: in one process."""

SHOWN = (*(("full", precision) for precision in PRECISIONS), ("lora", "bfloat16"), ("qlora", "bfloat16"))


def plan(request: PlanRequest) -> PlanSummary:
    """Memory of every way to run, and the smallest that fits.

    Raises:
        UserError: an unknown rectification, no amount of memory, or a model without a known shape.
    """
    wanted, device_bytes = _wanted(request), parse_bytes(request.gpu_memory)
    shape = shape_of(model_config(request.model))
    chosen = smallest(shape, wanted, request.gpus, device_bytes, peft=request.peft)
    setups = []
    for setup in _with(chosen, _shown_setups(wanted, request.gpus, peft=request.peft)):
        memory = predict(shape, setup)
        setups.append(PlannedSetup(setup=setup, **dict(memory), fits=fits(memory, device_bytes)))
    return PlanSummary(
        calculated="from the configuration; nothing was measured",
        model=PlannedModel(source=request.model, **dict(shape)),
        devices=request.gpus,
        device_bytes=device_bytes,
        usable_share=USABLE,
        setups=setups,
        smallest=chosen,
        smallest_command=None if chosen is None else command_for(request.model, chosen),
        versions=versions(),
    )


def write_plan(summary: PlanSummary, out: Path, *, overwrite: bool = False) -> None:
    """``summary.json`` in a folder of its own.

    Raises:
        UserError: the folder holds something else.
    """
    identity = summary.model_dump(include={"command", "model", "devices", "device_bytes", "setups"})
    with RunFolder(out).claim(identity, overwrite=overwrite).held(resume=False) as folder:
        folder.finish(summary)


# --- what fits -------------------------------------------------------------------------------------------------------


def smallest(shape: Shape, wanted: Setup, devices: int, device_bytes: int, *, peft: bool = False) -> Setup | None:
    """The set-up that fits on the fewest devices: all weights before adapters, without checkpointing before with it.

    Args:
        wanted: batches and rectification; method, precision, devices and checkpointing are searched.
        devices: most devices to use.
        device_bytes: memory of one.
        peft: adapters only.
    """
    for method, precision in BY_PREFERENCE:
        if peft and method == "full":
            continue
        counts = _device_counts(_most_devices(method, precision, wanted, devices))
        for setup in _setups(wanted, method, precision, counts):
            if fits(predict(shape, setup), device_bytes):
                return setup
    return None


def _wanted(request: PlanRequest) -> Setup:
    try:
        parse_rectification(request.rectification)
        parse_robust(request.robust)
    except ValueError as error:
        raise UserError(str(error)) from None
    return Setup(
        rectification=request.rectification,
        rows=request.batch_size,
        retain_rows=request.retain_batch_size,
        accumulation=request.accumulation,
        length=request.max_length,
        answer_share=request.answer_share,
        lora_r=request.lora_r,
        optim=request.optim,
        retain_direction_dtype=request.retain_direction_dtype,
        retain_direction_device=request.retain_direction_device,
        robust=request.robust,
        anchor_rows=request.anchor_rows,
    )


def _shown_setups(wanted: Setup, devices: int, *, peft: bool) -> Iterator[Setup]:
    for method, precision in SHOWN:
        if peft and method == "full":
            continue
        counts = sorted({1, _most_devices(method, precision, wanted, devices)})
        yield from _setups(wanted, method, precision, counts)


def _with(chosen: Setup | None, shown: Iterable[Setup]) -> list[Setup]:
    """Those that are shown and the one that is taken, which may be on another number of devices, among its like."""
    setups = list(shown)
    if chosen is None or chosen in setups:
        return setups
    alike = []
    for place, setup in enumerate(setups):
        if (setup.method, setup.precision) == (chosen.method, chosen.precision) and setup.devices < chosen.devices:
            alike.append(place)
    setups.insert(alike[-1] + 1, chosen)
    return setups


def _setups(wanted: Setup, method: str, precision: str, counts: list[int]) -> Iterator[Setup]:
    for count in counts:
        plain = replace(wanted, method=method, precision=precision, devices=count)
        yield plain
        yield replace(plain, checkpointing=True)


def _most_devices(method: str, precision: str, wanted: Setup, devices: int) -> int:
    """One where FSDP2 cannot divide it: it knows no tensors of bitsandbytes, no weights in two halves, and no whole
    matrices, at which robust steps look."""
    if method == "qlora" or wanted.optim != "adamw" or wanted.robust != "none" or (method, precision) == IN_HALVES:
        return 1
    return devices


def _device_counts(most: int) -> list[int]:
    """1, 2, 4, ... and the largest."""
    powers = [2**k for k in range(most.bit_length())]
    return sorted({most, *powers})


# --- the command -----------------------------------------------------------------------------------------------------

LAUNCH = "accelerate launch --config_file recipes/accelerate/fsdp2.yaml --num_processes {} -m gru_unlearn"
PRECISION_FLAGS = {
    "mixed": "--bf16",
    "bfloat16": "--dtype bfloat16 --bf16 false",
    "float32": "--dtype float32 --bf16 false",
}


def command_for(model: str, setup: Setup) -> str:
    """The command that runs a set-up on this model; its data and output, and of several devices
    the learning rate, are left to fill in."""
    start, rate = "gru", "auto"
    if setup.devices > 1:
        start, rate = LAUNCH.format(setup.devices), "RATE"  # sharded weights do not find one by themselves
    words = [start, "unlearn"]
    sizes: dict[str, str | int | None] = {
        "model": "MODEL" if model in PRESETS else model,
        "rectification": setup.rectification,
        "per-device-train-batch-size": setup.rows,
        "retain-batch-size": setup.retain_rows,
        "gradient-accumulation-steps": setup.accumulation,
        "max-length": setup.length,
        "learning-rate": rate,
    }
    words += _flags(sizes)
    words.append(PRECISION_FLAGS[setup.precision])
    if not setup.trains_all:
        words.append(f"--use-peft --lora-r {setup.lora_r}")
    if setup.method == "qlora":
        words.append("--load-in-4bit")
    words += _flags(
        {
            "optim": {"adamw": None, "adamw_8bit": "adamw_bnb_8bit"}.get(setup.optim, setup.optim),
            "retain-direction-dtype": setup.retain_direction_dtype,
            "retain-direction-device": setup.retain_direction_device,
            "robust": None if setup.robust == "none" else setup.robust,
            "retain-loss": "anchor" if setup.anchor_rows else None,
        }
    )
    if setup.checkpointing:
        words.append("--gradient-checkpointing")
    return " ".join(words)


def _flags(values: dict[str, str | int | None]) -> list[str]:
    return [f"--{name} {value}" for name, value in values.items() if value is not None]
