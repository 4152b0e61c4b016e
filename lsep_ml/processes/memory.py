"""Whether a process keeps the memory that it frees, for what it allocates next."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_KEPT = 2**30
_LARGEST = 2**25  # the most that glibc allows


def keep_freed_memory() -> bool:
    """Have the C library keep up to 1 GiB that is freed, in blocks of up to 32 MiB; True where it does (glibc).

    Else it gives the maps of a training step back to the system and asks for them anew in the next one, page by page: a
    tenth of the step of a small network on a CPU.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(
        mallopt(_TRIM_THRESHOLD, _KEPT) and mallopt(_MMAP_THRESHOLD, _LARGEST)
    )
