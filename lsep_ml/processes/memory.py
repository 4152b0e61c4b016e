"""What becomes of memory that a process frees: kept for what it allocates next, given back where too much lies idle.

All of it is of glibc; with other C libraries nothing is done.
"""

import ctypes
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_KEPT = 2**30
_LARGEST = 2**25  # the most that glibc allows
_RESIDENT = Path("/proc/self/statm")


class _Statistics(ctypes.Structure):
    """The struct mallinfo2 of malloc.h: bytes of maps in use (hblkhd), of blocks in use and of free ones, and more."""

    _fields_ = [
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd")),
        *((name, ctypes.c_size_t) for name in ("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")),
    ]


@cache
def _function(name: str) -> Any:
    """A function of the C library; None where it has none of this name."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def keep_freed_memory() -> bool:
    """Have the C library keep up to 1 GiB that is freed, in blocks of up to 32 MiB; True where it does (glibc).

    Else it gives the maps of a training step back to the system and asks for them anew in the next one, page by page: a
    tenth of the step of a small network on a CPU.
    """
    mallopt = _function("mallopt")
    return mallopt is not None and bool(
        mallopt(_TRIM_THRESHOLD, _KEPT) and mallopt(_MMAP_THRESHOLD, _LARGEST)
    )


def return_idle_memory(beyond: int = _KEPT) -> bool:
    """Give freed memory back to the system where more than `beyond` bytes of it are resident; True where it was.

    glibc up to 2.37 hardly finds the freed block of an aligned allocation, such as a tensor's, again once something
    small has taken the bytes beside it: a training with scores of 10 MB lost 4 MB a step, 17 GB in the end.
    """
    statistics, trim = _function("mallinfo2"), _function("malloc_trim")
    if statistics is None or trim is None or not _RESIDENT.exists():
        return False
    statistics.restype = _Statistics
    found = statistics()
    resident, shared = map(int, _RESIDENT.read_text().split()[1:3])
    idle = (resident - shared) * os.sysconf("SC_PAGE_SIZE") - found.uordblks - found.hblkhd
    return min(idle, found.fordblks) > beyond and bool(trim(0))
