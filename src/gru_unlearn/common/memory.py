"""Freed memory, given back to the system."""

import ctypes
from functools import cache
from typing import Any


def give_back_freed_memory() -> None:
    """Give freed main memory back, where the C library can (glibc); elsewhere nothing happens.

    Batches of ever new lengths leave holes in the heap that the next ones do not fit into. glibc keeps them: at rest a
    process was seen to hold four times what it used. Costs milliseconds, and the system fills pages anew.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library; on Windows there is no library of all names
        return None
