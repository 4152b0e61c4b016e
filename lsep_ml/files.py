"""Files that are whole or absent: written beside their place, synced, then renamed into it."""

import errno
import hashlib
import json
import math
import os
import re
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any

_SETTLED = 2_000_000_000  # nanoseconds
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}")
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def no_room_named(path: Path) -> Iterator[None]:
    """Let an error about a full disk (quota, size limit) say which file it was, what is free, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        free = shutil.disk_usage(path.parent).free
        advice = f"{os.strerror(error.errno)} ({free:,} bytes are free); make room and start the same command again"
        raise OSError(error.errno, advice, str(path)) from error


@contextmanager
def reading(path: Path, expected: str) -> Iterator[None]:
    """Let whatever a library raises on the contents of a user's file be one ValueError that names the file.

    It says what was `expected` of it and the first line of what the library found. Errors of the file system, which
    name the file themselves, pass.
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            raise
        raise _unreadable(path, expected, error) from error
    except Exception as error:  # libraries raise whatever their parsers do
        raise _unreadable(path, expected, error) from error


def check_writable(path: Path) -> None:
    """Raise OSError unless a file can be written at `path`, whose folders may be yet to be made: before long work."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "a folder; give the name of a file", str(path))
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "no folder", str(above))
    if not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "nothing can be written in this folder", str(above))


def _unreadable(path: Path, expected: str, error: Exception) -> ValueError:
    reason = str(error).strip().partition("\n")[0]
    return ValueError(f"{path}: not {expected} ({reason or type(error).__name__})")


@contextmanager
def atomic_write(path: Path, mode: str = "w", *, sync: bool = True) -> Iterator[IO[Any]]:
    """Open a file beside `path`, whose folder is made if need be, that becomes `path` when the block ends.

    After an error nothing is left of it, and what was at `path` stays. With `sync` it also outlives a loss of power;
    without, many small files are written faster.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        with (
            no_room_named(path),
            temporary.open(mode.replace("w", "x"), encoding=None if "b" in mode else "utf-8") as file,
        ):
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _beside(path: Path) -> Path:
    """Return a name of its own beside `path`, for what is to become it."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


def is_temporary(path: Path) -> bool:
    """Return whether `path` has the name of a file that was being written: a writer that is killed leaves it."""
    return _TEMPORARY.fullmatch(path.name) is not None


def reserve(file: int, size: int) -> None:
    """Make an open file `size` bytes long, with room for them on the disk where the system can promise it (not macOS).

    Raises OSError where there is none.
    """
    if sys.platform == "linux":
        os.posix_fallocate(file, 0, size)
    else:
        os.ftruncate(file, size)


def temporary_array(shape: tuple[int, ...], folder: Path | None = None) -> Any:
    """Return a NumPy array, float32, in a file without a name that is gone with it; its pages go to disk where memory
    is short.

    folder: where; None: the system's place for temporary files (TMPDIR). Raises OSError where there is no room for it.
    """
    import numpy as np  # here: most of what imports this module needs none

    place = Path(tempfile.gettempdir()) if folder is None else folder
    with tempfile.TemporaryFile(dir=place) as file, no_room_named(place / "a temporary file"):
        reserve(file.fileno(), 4 * math.prod(shape))
        return np.memmap(file, np.float32, "r+", shape=shape)


def write_json(path: Path, value: Any) -> None:
    """Write plain data as readable JSON (NaN and infinity refused: other programs cannot read them)."""
    with atomic_write(path) as file:
        json.dump(value, file, indent=2, allow_nan=False, ensure_ascii=False)
        file.write("\n")


def read_json(path: Path) -> Any:
    """Return the value stored by `write_json`."""
    return json.loads(path.read_text(encoding="utf-8"))


def inert(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula: an apostrophe goes before one that begins as a formula
    does."""
    return f"'{text}" if text[:1] in tuple("=+-@\t\r") else text


def spoken(text: str) -> str:
    """Return the text that `inert` marked, or any other as it is."""
    return text[1:] if text[:1] == "'" and inert(text[1:]) != text[1:] else text


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`, without its cost on disk where the file system can, else a copy."""
    beside = _beside(target)
    try:
        os.link(source, beside)
        os.replace(beside, target)
    except OSError:
        with source.open("rb") as content, atomic_write(target, "wb") as file:
            shutil.copyfileobj(content, file)
    finally:
        beside.unlink(missing_ok=True)  # renaming one name of a file to another of its names leaves both


def file_digest(path: Path) -> str:
    """Return sha256 of a file's bytes, in hex; a process reads a file again only when it was written to since."""
    found = path.stat()
    key = (path.absolute(), found.st_ino, found.st_size, found.st_mtime_ns)
    # The clock of a file system may tick slowly: of a file just written, a second write could leave the same time.
    settled = time.time_ns() - found.st_mtime_ns > _SETTLED
    return _remembered_digest(*key) if settled else _remembered_digest.__wrapped__(*key)


@cache
def _remembered_digest(path: Path, inode: int, size: int, written: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_hash(value: Any, length: int = 16) -> str:
    """Return the first `length` hex digits of the sha256 of plain data in canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]
