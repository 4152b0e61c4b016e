"""The bytes of an image file, read only where they are a file's and no more than memory has room for."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from lsep_ml.data.errors import ImageError

MAX_BYTES = 2**29
"""The largest file that is read where nothing else is asked for: an uncompressed picture of as many pixels as can be
decoded, with 16 bits a channel."""

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}
_LIMIT = ContextVar("max_bytes", default=MAX_BYTES)
_LEAST_SIDE: ContextVar[int | None] = ContextVar("least_side", default=None)


@contextmanager
def at_most(num_bytes: int) -> Iterator[None]:
    """Let images of a data set that are larger files than `num_bytes` count as unusable within this block."""
    token = _LIMIT.set(num_bytes)
    try:
        yield
    finally:
        _LIMIT.reset(token)


def size_limit() -> int:
    """Return the bytes that a file may have here; see `at_most`."""
    return _LIMIT.get()


@contextmanager
def decoded_down_to(least_side: int | None) -> Iterator[None]:
    """Let JPEG images of a data set that is read within this block be decoded at 1/2, 1/4 or 1/8 of their size, as far
    as both of their sides keep `least_side` pixels; None: at their size."""
    token = _LEAST_SIDE.set(least_side)
    try:
        yield
    finally:
        _LEAST_SIDE.reset(token)


def least_side() -> int | None:
    """Return the pixels that both sides of an image keep here; see `decoded_down_to`."""
    return _LEAST_SIDE.get()


def read_content(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the content of a regular file.

    Raises:
        ImageError: a pipe, a device, a folder, or more than `max_bytes`; nothing of it is read.
        OSError: it cannot be opened.
    """
    _check(path.stat(), max_bytes)  # before it is opened: to open a device can be to do something
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        _check(found, max_bytes)
        return file.read(found.st_size)


def _check(found: os.stat_result, max_bytes: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ImageError(f"{_KINDS.get(stat.S_IFMT(found.st_mode), 'something else')}, not a file")
    if found.st_size > max_bytes:
        raise ImageError(too_large(found.st_size, max_bytes))


def too_large(num_bytes: int, max_bytes: int) -> str:
    """Says that a file is larger than asked for."""
    return f"{num_bytes:,} bytes, more than max_bytes = {max_bytes:,}"
