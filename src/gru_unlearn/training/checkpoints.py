"""Checkpoints that survive a kill at any moment: which one is whole, and the rectifier's part of it."""

import json
import shutil
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers.trainer_callback import TrainerState

from gru_unlearn.geometry import GradientRectifier

RECTIFIER_FILE = "rectifier.safetensors"
_STATE_FILE = "trainer_state.json"


def last_whole_checkpoint(output_dir: str | Path) -> Path | None:
    """The newest checkpoint that was written to its end, or None.

    Trainer writes its state file last; a checkpoint without a readable one was cut short and is passed over. So is one
    whose other files are shorter than they say, as after a loss of power.
    """
    newest_first = sorted(_checkpoints(output_dir), key=lambda folder: int(_step_of(folder)), reverse=True)
    return next(filter(_is_whole, newest_first), None)


def drop_checkpoints(output_dir: str | Path) -> None:
    """Remove all of a run that is finished, whole or not: each takes several times the room of its model."""
    for folder in _checkpoints(output_dir):
        shutil.rmtree(folder)


def _checkpoints(output_dir: str | Path) -> list[Path]:
    return [folder for folder in Path(output_dir).glob("checkpoint-*") if _step_of(folder).isdigit()]


def _step_of(folder: Path) -> str:
    return folder.name.removeprefix("checkpoint-")


def _is_whole(folder: Path) -> bool:
    try:
        TrainerState.load_from_json(str(folder / _STATE_FILE))
        for file in folder.glob("*.safetensors"):
            with safe_open(str(file), framework="pt"):
                pass
    except (OSError, ValueError, TypeError, SafetensorError):
        return False
    return all(is_zipfile(file) for file in folder.glob("*.pt*") if file.is_file())


def save_rectifier(rectifier: GradientRectifier, folder: str | Path) -> None:
    """Write the rectifier's state into a checkpoint folder. To be called in every process; the first one writes.

    Sharded directions are gathered one tensor after the other into the first process's main memory.
    """
    state = rectifier.state_dict()
    first = not dist.is_initialized() or dist.get_rank() == 0
    directions: dict[str, Tensor] = {}
    for name, r in state.pop("retain_direction").items():
        whole = r.full_tensor() if isinstance(r, DTensor) else r  # every process takes part
        if first:
            directions[name] = whole.cpu().contiguous()
    if first:
        Path(folder).mkdir(parents=True, exist_ok=True)
        save_file(directions, str(Path(folder) / RECTIFIER_FILE), metadata={"state": json.dumps(state)})


def load_rectifier(rectifier: GradientRectifier, folder: str | Path) -> None:
    """Restore what :func:`save_rectifier` wrote, sharded as the parameters are here."""
    with safe_open(str(Path(folder) / RECTIFIER_FILE), framework="pt") as file:
        state: dict[str, Any] = json.loads(file.metadata()["state"])
        state["retain_direction"] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    rectifier.load_state_dict(state)
