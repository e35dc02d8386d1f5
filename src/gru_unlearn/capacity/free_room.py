"""What a run's device has left of its memory, in bytes."""

import os
from pathlib import Path

import psutil
import torch

CGROUP = Path("/sys/fs/cgroup")


def free_bytes(device: torch.device) -> int:
    """Memory that this process may still take of a device. Processes that share a host's main memory get equal parts of
    it."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    sharing = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(psutil.virtual_memory().available, _left_to_container()) // sharing


def _left_to_container() -> int:
    """What its control group (version 2) leaves a container; without one, more than any machine has."""
    most, used = (_number_in(CGROUP / name) for name in ("memory.max", "memory.current"))
    if most is None or used is None:
        return 2**63
    return max(0, most - used)


def _number_in(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # there is no such group, or its limit is called "max"
        return None
