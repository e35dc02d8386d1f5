"""One run in many processes (torchrun, accelerate launch): the first one decides, writes and speaks."""

import os
from collections.abc import Callable
from typing import TypeVar

from gru_unlearn.errors import UserError

T = TypeVar("T")


def is_first() -> bool:
    """Whether this process is the only one, or the first of many."""
    return os.environ.get("RANK", "0") == "0"


def decided_by_first(decide: Callable[[], T]) -> T:
    """The first process's answer, in every process.

    Raises:
        UserError: in all of them, when the first one's question raised it.
    """
    import torch.distributed as dist  # noqa: PLC0415 - slow to import, and is_first is asked by every command

    if not dist.is_initialized():
        return decide()
    answer: list[object] = [None, None]
    if is_first():
        try:
            answer[0] = decide()
        except UserError as error:
            answer[1] = str(error)
    dist.broadcast_object_list(answer)
    if answer[1] is not None:
        raise UserError(str(answer[1]))
    return answer[0]  # type: ignore[return-value]


def wait_for_all() -> None:
    """Return when every process has come here."""
    import torch.distributed as dist  # noqa: PLC0415

    if dist.is_initialized():
        dist.barrier()
