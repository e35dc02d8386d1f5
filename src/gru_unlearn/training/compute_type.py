"""In which type a run computes: bfloat16 where hardware has it (autocast), else that of the weights."""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from gru_unlearn.errors import UserError

NO_FP16 = "fp16 rescales gradients from step to step, which would distort the retain direction: use bf16"
LAUNCHED_WITH = "ACCELERATE_MIXED_PRECISION"
"""Where ``accelerate launch --mixed_precision`` leaves its word."""


def settle_compute_type(config: Any) -> None:
    """Decide ``bf16`` where it is None, and make what was said of it hold on this machine.

    Raises:
        UserError: it was launched with float16.
    """
    launched = os.environ.get(LAUNCHED_WITH, "no")
    if launched == "fp16" and config.bf16 is None:
        raise UserError(NO_FP16)
    if config.bf16 is None:
        config.bf16 = launched == "bf16" or _gpu_computes_in_bfloat16(config)
    if not config.bf16 and launched != "no":
        os.environ[LAUNCHED_WITH] = "no"  # transformers would take its word over a plain no
    if config.bf16 and not torch.accelerator.is_available():
        config.use_cpu = True  # transformers lets a processor compute in bfloat16 only where it is named


def _gpu_computes_in_bfloat16(config: Any) -> bool:
    if config.use_cpu or not torch.cuda.is_available():
        return False
    return torch.cuda.is_bf16_supported(including_emulation=False)


def processor_computes_in_bfloat16() -> bool:
    """Whether this machine's processor has instructions for bfloat16, so that ``--bf16`` saves time without a GPU."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def computing_as_steps(config: Any, *, sharded: bool = False) -> AbstractContextManager[Any]:
    """Inside, forward passes without gradients are computed as a run's steps are, and each weight is made narrow once
    for all of them. The weights must stay as they are meanwhile.

    Args:
        config: of the run.
        sharded: under FSDP2 nothing is changed: narrow copies of whole weights would stay in memory.
    """
    if sharded or not config.bf16:
        return nullcontext()
    return torch.autocast(config.device.type, torch.bfloat16)
