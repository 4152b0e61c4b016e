"""Opens every image once, before the first epoch, and remembers the verdicts."""

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from lsep_ml.data.cache import cache_file, load_arrays, save_arrays
from lsep_ml.data.cores import available_cores
from lsep_ml.data.errors import DataError, ImageError
from lsep_ml.data.images.content import read_content, size_limit, too_large
from lsep_ml.data.images.decode import decode_image
from lsep_ml.data.images.packed import PackedImages, content_digest, packed_images
from lsep_ml.data.twins import perceptual_hash

log = logging.getLogger(__name__)

Check = Literal["full", "sample", "on_read"]
"""Which images are opened before the first epoch: all; SAMPLE of them; none, and no file's state is asked for."""
SAMPLE = 1000

_CHECK: ContextVar[Check] = ContextVar("check", default="full")


@contextmanager
def images_checked(check: Check) -> Iterator[None]:
    """Have data sets that are read within this block check their images in this way.

    Raises:
        DataError: there is no such way.
    """
    if check not in get_args(Check):
        raise DataError(f"data.check={check}: {', '.join(get_args(Check))}")
    token = _CHECK.set(check)
    try:
        yield
    finally:
        _CHECK.reset(token)


def how_checked() -> Check:
    """Return how images are checked here; see `images_checked`."""
    return _CHECK.get()


FORMAT = 2  # of the stored verdicts
CHUNK = 64  # images per task
MISSING = "missing"
OF_IMAGES = ("image_ids", "state", "sizes", "digests", "hashes")


class Verdict(NamedTuple):
    """One image: why it cannot be used ("" if it can), height, width, a hash of the file's content, and one of what it
    looks like."""

    problem: str
    height: int
    width: int
    digest: bytes
    perceptual_hash: int = 0


@dataclass(frozen=True)
class ImageCheck:
    """Says what opening N images gave.

    Attributes:
        problems: row -> why this image cannot be used.
        sizes: int32 (N, 2), height and width in pixels; 0 where it cannot be used.
        num_bytes: int64 (N,), the file's length; -1 where it is missing.
        digests: 16 bytes (N,), equal for files of equal content.
        hashes: uint64 (N,), of what the images look like (`perceptual_hash`); 0 where there is nothing to tell.
    """

    problems: dict[int, str]
    sizes: NDArray[np.int32]
    num_bytes: NDArray[np.int64]
    digests: NDArray[np.bytes_]
    hashes: NDArray[np.uint64]


def check_images(root: Path, image_ids: NDArray[np.str_], cache: str | Path | None) -> ImageCheck:
    """Open all images as training will, those unchanged since an earlier call from the cache.

    One that is no regular file, or larger than `size_limit()`, is a problem and not opened. Packed images were opened
    when they were packed, and what was found then is taken.

    Args:
        root: the folder that the ids are relative to.
        image_ids: unicode (N,), distinct.
        cache: folder of the verdicts; None: every image is opened.

    Raises:
        DataError: as `packed_images`.
    """
    packed = packed_images(root)
    if packed is None:
        return _check_files(root, image_ids, cache)
    rows = packed.rows(image_ids.tolist())
    loose = np.flatnonzero(rows < 0)
    return _with_packed(packed, rows, loose, _check_files(root, image_ids[loose], cache))


def _with_packed(
    packed: PackedImages, rows: NDArray[np.int64], loose: NDArray[np.int64], of_loose: ImageCheck
) -> ImageCheck:
    """Return what is known of the packed images at `rows` and, where a row is -1, of the `loose` files."""
    inside = np.flatnonzero(rows >= 0)
    told = {
        name: packed.column(name)[rows[inside]] for name in ("height", "width", "length", "digest", "hash")
    }
    sizes = np.zeros((len(rows), 2), np.int32)
    sizes[loose], sizes[inside] = of_loose.sizes, np.stack([told["height"], told["width"]], axis=1)
    num_bytes = np.zeros(len(rows), np.int64)
    num_bytes[loose], num_bytes[inside] = of_loose.num_bytes, told["length"]
    digests = np.zeros(len(rows), "S16")
    digests[loose], digests[inside] = of_loose.digests, told["digest"].to_list()
    hashes = np.zeros(len(rows), np.uint64)
    hashes[loose], hashes[inside] = of_loose.hashes, told["hash"]
    problems = {int(loose[row]): problem for row, problem in of_loose.problems.items()}
    problem_of = packed.column("problem")[rows[inside]].to_list()
    problems |= {int(row): problem for row, problem in zip(inside, problem_of, strict=True) if problem}
    large = np.flatnonzero(num_bytes > size_limit())
    problems |= {int(row): too_large(int(num_bytes[row]), size_limit()) for row in large}
    return ImageCheck(dict(sorted(problems.items())), sizes, num_bytes, digests, hashes)


def _check_files(root: Path, image_ids: NDArray[np.str_], cache: str | Path | None) -> ImageCheck:
    stored_at = cache_file(cache, "images", FORMAT, str(root.resolve()))
    state = _file_states(root, image_ids)
    sizes = np.zeros((len(image_ids), 2), np.int32)
    digests = np.zeros(len(image_ids), "S16")
    hashes = np.zeros(len(image_ids), np.uint64)
    problems = {int(row): MISSING for row in np.flatnonzero(state[:, 0] < 0)}
    lengths = state[:, 0].copy()
    large = lengths > size_limit()
    problems |= {int(row): too_large(int(lengths[row]), size_limit()) for row in np.flatnonzero(large)}
    state[large] = -1  # nothing is remembered of them: another limit may be asked for
    to_open = state[:, 0] >= 0

    stored = load_arrays(stored_at)
    if stored is not None:
        rows, stored_rows = _unchanged(image_ids, state, stored)
        sizes[rows], digests[rows] = stored["sizes"][stored_rows], stored["digests"][stored_rows]
        hashes[rows] = stored["hashes"][stored_rows]
        to_open[rows] = False
        row_of = dict(zip(stored_rows.tolist(), rows.tolist(), strict=True))
        bad = zip(stored["bad_rows"].tolist(), stored["problems"].tolist(), strict=True)
        problems |= {row_of[row]: problem for row, problem in bad if row in row_of}

    opened = np.flatnonzero(to_open).tolist()
    for row, verdict in zip(opened, _open_all(root, image_ids[opened].tolist()), strict=True):
        sizes[row], digests[row] = (verdict.height, verdict.width), verdict.digest
        hashes[row] = verdict.perceptual_hash
        if verdict.problem:
            problems[row] = verdict.problem
    if opened:
        bad_rows = sorted(row for row in problems if state[row, 0] >= 0)
        found = {
            "image_ids": image_ids,
            "state": state,
            "sizes": sizes,
            "digests": digests,
            "hashes": hashes,
            "bad_rows": np.array(bad_rows, np.int64),
            "problems": np.array([problems[row] for row in bad_rows], np.str_),
        }
        save_arrays(stored_at, **(found if stored is None else _with_others(found, stored)))
    return ImageCheck(dict(sorted(problems.items())), sizes, lengths, digests, hashes)


def _file_states(root: Path, image_ids: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return length and time of change of each file, (N, 2); -1 where there is no file."""
    states = []
    folder = f"{root}{os.sep}"
    for name in image_ids.tolist():
        try:
            found = os.stat(folder + name)
            states.append((found.st_size, found.st_mtime_ns))
        except (OSError, ValueError):
            states.append((-1, -1))
    return np.array(states, np.int64).reshape(-1, 2)


def _unchanged(
    image_ids: NDArray[np.str_], state: NDArray[np.int64], stored: dict[str, NDArray]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows whose file exists and is as it was when its verdict was stored, and the rows of those
    verdicts."""
    if np.array_equal(image_ids, stored["image_ids"]):
        rows = stored_rows = np.arange(len(image_ids))
    else:
        _, rows, stored_rows = np.intersect1d(
            image_ids, stored["image_ids"], assume_unique=True, return_indices=True
        )
    same = (state[rows] == stored["state"][stored_rows]).all(axis=1) & (state[rows, 0] >= 0)
    return rows[same], stored_rows[same]


def _with_others(found: dict[str, NDArray], stored: dict[str, NDArray]) -> dict[str, NDArray]:
    """Return what was `found`, followed by what is `stored` of images that were not asked for now."""
    other = ~np.isin(stored["image_ids"], found["image_ids"])
    row_of = len(found["image_ids"]) + np.cumsum(other) - 1
    bad = other[stored["bad_rows"]]
    both = {name: np.concatenate([found[name], stored[name][other]]) for name in OF_IMAGES}
    both["bad_rows"] = np.concatenate([found["bad_rows"], row_of[stored["bad_rows"][bad]]])
    both["problems"] = np.concatenate([found["problems"], stored["problems"][bad]])
    return both


def _open_all(root: Path, names: Sequence[str]) -> Iterator[Verdict]:
    if not names:
        return
    log.info("opening %s images in %s once, to find broken ones", f"{len(names):,}", root)
    console = Console(stderr=True)
    chunks = [names[start : start + CHUNK] for start in range(0, len(names), CHUNK)]
    with ThreadPoolExecutor(available_cores()) as pool:  # threads: decoding releases the interpreter
        verdicts = pool.map(lambda chunk: [_open_one(root / name) for name in chunk], chunks)
        hidden = not console.is_terminal
        for of_chunk in track(verdicts, "opening images", len(chunks), console=console, disable=hidden):
            yield from of_chunk


def _open_one(path: Path) -> Verdict:
    try:
        content = read_content(path, sys.maxsize)  # what is too large is not opened
    except OSError as error:
        return Verdict(f"cannot be read: {error.strerror}", 0, 0, b"")
    except ImageError as error:
        return Verdict(str(error), 0, 0, b"")
    return verdict_on(content)


def verdict_on(content: bytes) -> Verdict:
    """Open an image file's content."""
    digest = content_digest(content)
    try:
        image = decode_image(content)
    except ImageError as error:
        return Verdict(str(error), 0, 0, digest)
    _, height, width = image.shape
    return Verdict("", height, width, digest, perceptual_hash(image.numpy()))
