"""``gru plan``: which ways of running fit on which devices, as a summary, a table and a command.

The memory of each is calculated in :mod:`footprint`. A set-up counts as fitting up to :data:`USABLE` of a device.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from gru_unlearn.common.files import write_json
from gru_unlearn.common.versions import versions
from gru_unlearn.errors import UserError
from gru_unlearn.geometry import parse_rectification
from gru_unlearn.planning.footprint import (
    DIRECTION_BYTES,
    OPTIMIZERS,
    PRECISIONS,
    PRESETS,
    Memory,
    Setup,
    Shape,
    model_config,
    predict,
    shape_of,
)
from gru_unlearn.results.run_folder import SUMMARY_FILE, RunFolder

USABLE = 0.9
"""Share of a device that a run may fill. The rest is left to the context, communication and fragments."""

# --- what fits -------------------------------------------------------------------------------------------------------

BY_PREFERENCE = (("full", "mixed"), ("full", "bfloat16"), ("lora", "bfloat16"), ("qlora", "bfloat16"))
"""bfloat16 weights come after mixed precision: steps of the usual learning rates are smaller than their rounding."""


def smallest(shape: Shape, wanted: Setup, devices: int, device_bytes: int, *, peft: bool = False) -> Setup | None:
    """The set-up that fits on the fewest devices: all weights before adapters, without checkpointing before with it.

    Args:
        wanted: batches and rectification; method, precision, devices and checkpointing are searched.
        devices: most devices to use.
        device_bytes: memory of one.
        peft: adapters only.
    """
    for method, precision in BY_PREFERENCE[2 if peft else 0 :]:
        for count in _device_counts(devices if _shards(method, wanted) else 1):
            for checkpointing in (False, True):
                setup = replace(wanted, method=method, precision=precision, devices=count, checkpointing=checkpointing)
                if fits(predict(shape, setup), device_bytes):
                    return setup
    return None


def _shards(method: str, setup: Setup) -> bool:
    """Whether FSDP2 can divide it: it knows no tensors of bitsandbytes."""
    return method != "qlora" and setup.optim == "adamw"


def fits(memory: Memory, device_bytes: int) -> bool:
    """Whether the peak leaves a device the share that it needs for itself."""
    return memory.peak <= USABLE * device_bytes


def _device_counts(most: int) -> list[int]:
    """1, 2, 4, ... and the largest."""
    return sorted({most, *(2**k for k in range(most.bit_length()) if 2**k <= most)})


def command_for(model: str, setup: Setup) -> str:
    """The command that runs a set-up on this model; its data and output are left to fill in."""
    flags = {
        "model": "MODEL" if model in PRESETS else model,
        "rectification": setup.rectification,
        "per-device-train-batch-size": setup.rows,
        **({"retain-batch-size": setup.retain_rows} if setup.retain_rows else {}),
        "gradient-accumulation-steps": setup.accumulation,
        "max-length": setup.length,
    }
    words = [f"--{name} {value}" for name, value in flags.items()]
    words += {"mixed": ["--bf16"], "bfloat16": ["--dtype bfloat16"], "float32": ["--dtype float32"]}[setup.precision]
    words += [f"--use-peft --lora-r {setup.lora_r}"] if setup.method != "full" else []
    words += ["--load-in-4bit"] if setup.method == "qlora" else []
    words += [f"--optim {'adamw_bnb_8bit' if setup.optim == 'adamw_8bit' else setup.optim}"] * (setup.optim != "adamw")
    for name in ("retain_direction_dtype", "retain_direction_device"):
        if getattr(setup, name):
            words.append(f"--{name.replace('_', '-')} {getattr(setup, name)}")
    words += ["--gradient-checkpointing"] if setup.checkpointing else []
    launch = (
        f"accelerate launch --config_file recipes/accelerate/fsdp2.yaml --num_processes {setup.devices} -m gru_unlearn"
    )
    return " ".join(["gru" if setup.devices == 1 else launch, "unlearn", *words])


# --- the command's result --------------------------------------------------------------------------------------------


def plan(model: str, wanted: Setup, devices: int, device_bytes: int, *, peft: bool = False) -> dict[str, Any]:
    """Memory of every way to run, and the smallest that fits, for showing and for ``summary.json``.

    Raises:
        UserError: a number out of range, an unknown rectification, or a model without a known shape.
    """
    _check(wanted, devices, device_bytes)
    shape = shape_of(model_config(model))
    rows = []
    for setup in _table_setups(wanted, devices, peft=peft):
        memory = predict(shape, setup)
        rows.append({"setup": asdict(setup), **asdict(memory), "fits": fits(memory, device_bytes)})
    chosen = smallest(shape, wanted, devices, device_bytes, peft=peft)
    return {
        "command": "plan",
        "calculated": "from the configuration; nothing was measured",
        "model": {"source": model, **asdict(shape)},
        "devices": devices,
        "device_bytes": device_bytes,
        "usable_share": USABLE,
        "setups": rows,
        "smallest": None if chosen is None else asdict(chosen),
        "smallest_command": None if chosen is None else command_for(model, chosen),
        "versions": versions(),
    }


def _check(wanted: Setup, devices: int, device_bytes: int) -> None:
    numbers = {"gpus": devices, "gpu-memory": device_bytes, "batch-size": wanted.rows, "max-length": wanted.length}
    numbers |= {
        "accumulation": wanted.accumulation,
        "lora-r": wanted.lora_r,
        "retain-batch-size": 1 if wanted.retain_rows is None else wanted.retain_rows,
    }
    for name, value in numbers.items():
        if value < 1:
            raise UserError(f"--{name} must be at least 1, got {value}")
    choices: tuple[tuple[str, str | None, tuple[str | None, ...]], ...] = (
        ("optim", wanted.optim, OPTIMIZERS),
        ("retain-direction-dtype", wanted.retain_direction_dtype, (*DIRECTION_BYTES, None)),
        ("retain-direction-device", wanted.retain_direction_device, ("cpu", None)),
    )
    for choice, chosen, known in choices:
        if chosen not in known:
            raise UserError(f"--{choice} must be one of {', '.join(filter(None, known))}, got {chosen!r}")
    if not 0 < wanted.answer_share <= 1:
        raise UserError(f"--answer-share must be above 0 and at most 1, got {wanted.answer_share}")
    try:
        parse_rectification(wanted.rectification)
    except ValueError as error:
        raise UserError(str(error)) from None


def _table_setups(wanted: Setup, devices: int, *, peft: bool) -> Iterable[Setup]:
    kinds = [("full", precision) for precision in PRECISIONS] + [("lora", "bfloat16"), ("qlora", "bfloat16")]
    for method, precision in kinds[len(PRECISIONS) if peft else 0 :]:
        for count in dict.fromkeys((1, devices if _shards(method, wanted) else 1)):
            for checkpointing in (False, True):
                yield replace(wanted, method=method, precision=precision, devices=count, checkpointing=checkpointing)


def write_plan(summary: dict[str, Any], out: Path, *, overwrite: bool = False) -> None:
    """``summary.json`` in a folder of its own.

    Raises:
        UserError: the folder holds something else.
    """
    identity = {key: summary[key] for key in ("command", "model", "devices", "device_bytes", "setups")}
    RunFolder(out).check(identity, overwrite=overwrite)
    with RunFolder(out).held(identity, resume=False):
        write_json(out / SUMMARY_FILE, summary)


def parse_bytes(text: str) -> int:
    """``80GiB``, ``24 GB``, ``512MiB``, or a plain number of bytes.

    Raises:
        UserError: anything else.
    """
    found = re.fullmatch(r"([0-9.]+)\s*(?:([KMGT])(i?)B?)?", text.strip(), re.IGNORECASE)
    try:
        number, unit, binary = found.groups() if found else ("", None, None)
        return int(float(number) * (1024 if binary else 1000) ** ("KMGT".index(unit.upper()) + 1 if unit else 0))
    except ValueError:
        raise UserError(f"{text!r} is no amount of memory: expected something like 80GiB or 24GB") from None


# --- tables ----------------------------------------------------------------------------------------------------------

PARTS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer": "AdamW",
    "retain_direction": "r",
    "update_copy": "copy",
    "working_weights": "working",
    "activations": "activ.",
    "logits": "logits",
    "peak": "peak",
}


def describe_setup(setup: Setup) -> str:
    """``full, mixed, 8 devices, checkpointing``."""
    words = [setup.method, setup.precision, f"{setup.devices} device{'s' * (setup.devices > 1)}"]
    return ", ".join(words + ["checkpointing"] * setup.checkpointing)


def plan_rows(summary: dict[str, Any]) -> list[list[str]]:
    """One row a set-up: its name, GiB of each part of :data:`PARTS`, and whether it fits."""
    return [
        [
            describe_setup(Setup(**row["setup"])),
            *(f"{row[part] / 2**30:.2f}" for part in PARTS),
            "yes" if row["fits"] else "no",
        ]
        for row in summary["setups"]
    ]


def advice(summary: dict[str, Any]) -> list[str]:
    """What to run, in a line or two."""
    if summary["smallest"] is None:
        return ["Nothing fits: smaller --batch-size or --max-length, more --gpus, or a smaller model."]
    chosen = Setup(**summary["smallest"])
    lines = [
        f"Smallest that fits: {describe_setup(chosen)}",
        f"  {summary['smallest_command']} --forget ... --retain ...",
    ]
    host = max(row["host"] for row in summary["setups"] if Setup(**row["setup"]).method == chosen.method)
    if host:
        lines.append(f"r takes up to {host / 2**30:.1f} GiB of main memory for each device.")
    return lines


def docs_table(counts: Sequence[int] = (1, 2, 4, 8, 16, 32, 64)) -> str:
    """Markdown: calculated peak per device, GiB, of the presets by set-up (rows) and number of devices (columns).

    With checkpointing on; QLoRA is not sharded.
    """
    lines = ["| model | set-up | " + " | ".join(map(str, counts)) + " |", "|---" * (len(counts) + 2) + "|"]
    for model in PRESETS:
        shape = shape_of(model_config(model))
        for method, precision in BY_PREFERENCE:
            setup = Setup(method=method, precision=precision, checkpointing=True)
            peaks = [predict(shape, replace(setup, devices=count)).peak / 2**30 for count in counts]
            cells = [
                f"{peak:.1f}" if method != "qlora" or count == 1 else ""
                for count, peak in zip(counts, peaks, strict=True)
            ]
            lines.append(f"| {model} | {method}, {precision} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
