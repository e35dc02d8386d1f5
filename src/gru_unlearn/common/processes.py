"""One run in many processes (torchrun, accelerate launch): the first one decides, writes and speaks."""

import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

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
    group = _group()
    if group is None:
        return decide()
    answer: list[object] = [None, None]
    if is_first():
        try:
            answer[0] = decide()
        except UserError as error:
            answer[1] = str(error)
    group.broadcast_object_list(answer)
    if answer[1] is not None:
        raise UserError(str(answer[1]))
    return answer[0]  # type: ignore[return-value]


def wait_for_all() -> None:
    """Return when every process has come here."""
    group = _group()
    if group is not None:
        group.barrier()


def _group() -> Any:
    """torch.distributed, where several processes work together. Whoever started them has imported it already."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_initialized():
        return None
    return distributed
