"""Settings that need a package which does not come with this one: found out before the work, in one line."""

from collections.abc import Sequence

import torch
from transformers import Trainer
from transformers.integrations.integration_utils import get_reporting_integration_callbacks
from transformers.training_args import OptimizerNames
from transformers.utils.import_utils import is_bitsandbytes_available, is_liger_kernel_available

from gru_unlearn.common.trackers import require_trackers
from gru_unlearn.errors import UserError, first_line
from gru_unlearn.training.config import UnlearningConfig

INSTALL = "install them with: pip install 'gru-unlearn[gpu]'"

_BITSANDBYTES = ("8bit", "bnb", "paged", "lion", "ademamix")
"""Parts of the names of optimizers that bitsandbytes brings."""
_NOT_BITSANDBYTES = ("adamw_torch_8bit", "galore", "apollo")


def uses_bitsandbytes(optimizer: str) -> bool:
    """Whether transformers takes an optimizer of this name from bitsandbytes."""
    name = OptimizerNames(optimizer).value
    return any(part in name for part in _BITSANDBYTES) and not any(part in name for part in _NOT_BITSANDBYTES)


def require_packages(args: UnlearningConfig, *, here: bool = True) -> None:
    """Check what optimizer, kernels and trackers need.

    Args:
        args: a run's settings.
        here: the run is to be on this machine, so its devices count too.

    Raises:
        UserError: it is not installed, or does not work on this machine.
    """
    if uses_bitsandbytes(args.optim) and not is_bitsandbytes_available():
        raise UserError(f"--optim {OptimizerNames(args.optim).value} needs bitsandbytes, which is missing: {INSTALL}")
    _require_optimizer(args)
    if args.use_liger_kernel and not is_liger_kernel_available():
        raise UserError(f"--use-liger-kernel needs liger-kernel, which is missing: {INSTALL}")
    if here and args.use_liger_kernel and not torch.cuda.is_available():
        raise UserError("--use-liger-kernel needs a GPU, and none was found here: leave it off")
    _require_trackers(args.report_to or [])


def _require_optimizer(args: UnlearningConfig) -> None:
    """Transformers finds an optimizer's package, and reads its arguments, when it is made."""
    try:
        Trainer.get_optimizer_cls_and_kwargs(args)
    except (ImportError, ValueError, TypeError) as error:
        if "You need to pass a `model`" not in str(error):  # only what comes before a model is asked here
            raise UserError(f"--optim {OptimizerNames(args.optim).value}: {first_line(error)}") from None


def _require_trackers(names: Sequence[str]) -> None:
    require_trackers(names)
    for name in names:
        try:
            for tracker in get_reporting_integration_callbacks([name]):
                tracker()
        except (ImportError, RuntimeError, ValueError) as error:
            raise UserError(f"--report-to {name}: {first_line(error)}") from None
    if "wandb" in names:
        _require_login()


def _require_login() -> None:
    """Weights & Biases would ask for one, or give up without, where the training begins."""
    import wandb  # noqa: PLC0415 - there only for who reports to it

    mend = "log in with `wandb login`, or set WANDB_MODE=offline to keep the run on this machine"
    try:
        known = wandb.setup().settings.mode in ("offline", "dryrun", "disabled") or wandb.login(prompt=False)
    except Exception as error:  # of several types; each becomes one line
        raise UserError(f"--report-to wandb: {first_line(error)}: {mend}") from None
    if not known:
        raise UserError(f"--report-to wandb: nobody is logged in: {mend}")
