"""Settings that need a package which does not come with this one: found out before the work, in one line."""

import torch
from transformers.training_args import OptimizerNames
from transformers.utils.import_utils import is_bitsandbytes_available, is_liger_kernel_available

from gru_unlearn.errors import UserError
from gru_unlearn.training.config import UnlearningConfig

INSTALL = "install them with: pip install 'gru-unlearn[gpu]'"

_BITSANDBYTES = ("8bit", "bnb", "paged", "lion", "ademamix")
"""Parts of the names of optimizers that bitsandbytes brings."""
_NOT_BITSANDBYTES = ("adamw_torch_8bit", "galore", "apollo")


def uses_bitsandbytes(optimizer: str) -> bool:
    """Whether transformers takes an optimizer of this name from bitsandbytes."""
    name = OptimizerNames(optimizer).value
    return any(part in name for part in _BITSANDBYTES) and not any(part in name for part in _NOT_BITSANDBYTES)


def require_packages(args: UnlearningConfig) -> None:
    """Check what optimizer and kernels need.

    Raises:
        UserError: it is not installed, or does not work on this machine.
    """
    if uses_bitsandbytes(args.optim) and not is_bitsandbytes_available():
        raise UserError(f"--optim {OptimizerNames(args.optim).value} needs bitsandbytes, which is missing: {INSTALL}")
    if args.use_liger_kernel and not is_liger_kernel_available():
        raise UserError(f"--use-liger-kernel needs liger-kernel, which is missing: {INSTALL}")
    if args.use_liger_kernel and not torch.cuda.is_available():
        raise UserError("--use-liger-kernel needs a GPU, and none was found here: leave it off")
