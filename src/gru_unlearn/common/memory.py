"""Freed memory, given back to the system."""

import ctypes
from functools import cache
from typing import Any, NamedTuple

MUCH = 256 * 2**20
"""Bytes of freed memory that are worth the time."""


def give_back_freed_memory(least: int = 0) -> None:
    """Give freed main memory back, where the C library can (glibc); elsewhere nothing happens.

    Batches of ever new lengths leave holes in the heap that the next ones do not fit into, and glibc keeps them. Giving
    them back costs milliseconds, and the system fills pages anew where they are needed again.

    Args:
        least: do nothing if fewer bytes than these are freed and kept.
    """
    library = _library()
    if library is not None and heap().freed >= least:
        library.malloc_trim(0)


class Heap(NamedTuple):
    """Bytes of the C library."""

    in_use: int
    freed: int
    """freed, and kept for what comes next"""


def heap() -> Heap:
    """As it is now; zeros where the library does not tell."""
    library = _library()
    if library is None:
        return Heap(0, 0)
    found = library.mallinfo2()
    return Heap(in_use=found.uordblks + found.hblkhd, freed=found.fordblks)


@cache
def _library() -> Any:
    """The C library, if it can give memory back and tell of it (glibc from 2.33)."""
    try:
        library = ctypes.CDLL(None)
        library.mallinfo2.restype = _MallInfo
        library.malloc_trim.argtypes = [ctypes.c_size_t]
    except (AttributeError, OSError, TypeError):  # another C library; on Windows there is no library of all names
        return None
    return library


class _MallInfo(ctypes.Structure):
    """What ``mallinfo2`` tells, by glibc's names: ``hblkhd`` are the bytes of blocks outside the heap."""

    _names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = tuple((name, ctypes.c_size_t) for name in _names)
