"""What a dry run does beyond preparing: look for packages, load the model, and pass the longest rows through it."""

import os
from typing import Any

import torch

from gru_unlearn.models.loading import free_memory, parameter_count
from gru_unlearn.runs.run_models import load_as_set, refuse_broken
from gru_unlearn.runs.run_preparation import Prepared, check_machine

USABLE = 0.8
"""Share of the memory that a model may fill here; a larger one is not loaded."""

LARGEST_TYPE = 4
"""Bytes of a weight, at most."""


def rehearse(prepared: Prepared) -> str:
    """Try what can be tried without a step; returns what was left out on this machine, for the last line.

    Raises:
        UserError: a package is missing, or the model does not load, has no room, or gives no numbers.
    """
    check_machine(prepared.recipe, here=False)
    device = _device(prepared)
    needed = parameter_count(prepared.model.folder, prepared.recipe.trust_remote_code) * LARGEST_TYPE
    if needed > USABLE * _memory(device):
        return f" but a forward pass (this machine's memory is too small for {needed / 2**30:.0f} GiB of weights)"
    if device.type == "cpu" and _needs_gpu(prepared):
        return " but a forward pass (it needs a GPU)"
    model: Any = load_as_set(prepared, prepared.model.folder)
    refuse_broken(prepared, model.to(device), device)
    del model
    free_memory()
    return ""


def _device(prepared: Prepared) -> torch.device:
    """Where the run would be; a dry run's configuration says the CPU, whatever was set."""
    if torch.cuda.is_available() and not prepared.recipe.settings.get("use_cpu"):
        return torch.device("cuda")
    return torch.device("cpu")


def _memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _needs_gpu(prepared: Prepared) -> bool:
    recipe = prepared.recipe
    return recipe.load_in_4bit or recipe.attn_implementation == "flash_attention_2"
