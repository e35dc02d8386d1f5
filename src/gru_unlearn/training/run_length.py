"""How many batches an epoch has, and epochs a run, as Trainer counts them."""

import math

from gru_unlearn.errors import UserError
from gru_unlearn.training.config import UnlearningConfig


def batches_an_epoch(args: UnlearningConfig, rows: int, processes: int = 1) -> int:
    """Batches that each process gets of so many rows."""
    batches = rows / (args.per_device_train_batch_size * processes)
    return math.floor(batches) if args.dataloader_drop_last else math.ceil(batches)


def steps_an_epoch(args: UnlearningConfig, rows: int, processes: int = 1) -> int:
    """Optimizer steps; the last one of an epoch may be of a short accumulation window."""
    return max(1, math.ceil(batches_an_epoch(args, rows, processes) / args.gradient_accumulation_steps))


def epochs_begun(args: UnlearningConfig, rows: int, processes: int = 1) -> int:
    """Epochs of a run, the one that its last step is in among them."""
    if args.max_steps > 0:
        return math.ceil(args.max_steps / steps_an_epoch(args, rows, processes))
    return math.ceil(args.num_train_epochs)


def require_a_batch(args: UnlearningConfig, rows: int, name: str) -> None:
    """Whether there is anything to step with.

    Raises:
        UserError: the rows fill no batch, and such a one is dropped.
    """
    if batches_an_epoch(args, rows, args.world_size):
        return
    needed = args.per_device_train_batch_size * args.world_size
    raise UserError(
        f"dataloader_drop_last drops all {rows} {name} rows, which fill no batch of {needed}, and no step is left: "
        "leave it away, or lower per_device_train_batch_size"
    )
