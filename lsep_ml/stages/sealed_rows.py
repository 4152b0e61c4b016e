"""Arrays on disk: written whole, or row by row in parts that are sealed, so that a kill loses little."""

import hashlib
import json
import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from lsep_ml.data.data_set import SPLITS, DataSet, Split
from lsep_ml.data.known import without_unread
from lsep_ml.files import link_or_copy, no_room_named, read_json, reserve, write_json
from lsep_ml.metrics.indicator import Known, SparseIndicator, Targets

log = logging.getLogger(__name__)

Rows = tuple[np.ndarray, np.ndarray, tuple[tuple[int, str], ...]]
"""Their numbers in the split, their features, and those whose image could not be read, with why."""

SECONDS = 20.0
"""Between two seals: what a kill can lose."""


class SealedRows:
    """A .npy file whose rows are written in order, from several places at most one batch of each process ahead.

    Beside it lies a list of its parts, each the number of rows up to its end and the sha256 of its bytes. Opened again
    after a kill, it begins behind the last part that is whole; the rest is written again.

    Args:
        path: of the file; its folder is made.
        dtype, shape: of the whole array.

    Attributes:
        done: rows that are sealed.
    """

    def __init__(self, path: Path, dtype: np.dtype, shape: tuple[int, int]) -> None:
        self.path = path
        self._parts_file = path.with_suffix(".parts.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._parts: list[tuple[int, str]] = []
        self._array = self._found(dtype, shape)
        if self._array is None:
            self._array = new_array(path, dtype, shape)
        self.done = self._parts[-1][0] if self._parts else 0
        self._written = self.done
        self._sealed_at = time.monotonic()

    def _found(self, dtype: np.dtype, shape: tuple[int, int]) -> np.memmap | None:
        """Return the array that a killed process left, with its whole parts; None where there is none of this kind."""
        try:
            parts = read_json(self._parts_file)
            array: np.memmap = np.load(self.path, mmap_mode="r+", allow_pickle=False)
            if array.dtype != dtype or array.shape != shape:
                return None
            start = 0
            for end, digest in parts:
                if _digest(array[start:end]) != digest:
                    break
                self._parts.append((end, digest))
                start = end
        except (OSError, ValueError, TypeError, json.JSONDecodeError):
            return None
        return array

    def write(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Write the values of these rows, which follow those before them once a round of all processes is done."""
        assert self._array is not None
        self._array[rows] = values
        self._written = max(self._written, int(rows[-1]) + 1)

    def seal_if_due(self) -> bool:
        """Seal what is written, where the last seal is `SECONDS` ago; say whether it was done. Between rounds only."""
        if time.monotonic() - self._sealed_at < SECONDS:
            return False
        self._seal()
        return True

    def _seal(self) -> None:
        assert self._array is not None
        self._array.flush()
        if self._written > self.done:
            self._parts.append((self._written, _digest(self._array[self.done : self._written])))
            write_json(self._parts_file, self._parts)
            self.done = self._written
        self._sealed_at = time.monotonic()

    def finish(self, target: Path) -> None:
        """Make `target` the same file, all rows of which are written; what is here stays for a build that is killed."""
        self._seal()
        assert self._array is not None
        assert self.done == len(self._array)
        link_or_copy(self.path, target)


def write_features(
    split: str, source: Split, kept: SealedRows, rounds: Iterable[list[Rows]]
) -> dict[str, str]:
    """Write the features in their order; returns the images that could not be read, with why, those of an extraction
    that was killed among them."""
    noted = kept.path.with_suffix(".unread.json")
    unread: dict[str, str] = read_json(noted) if noted.exists() else {}
    started, before = time.perf_counter(), kept.done
    for computed in rounds:
        for rows, values, of_rows in computed:
            kept.write(rows, values)
            if of_rows:
                unread |= {str(source.image_ids[row]): why for row, why in of_rows}
                write_json(noted, unread)
        if kept.seal_if_due():
            rate = (kept.done - before) / (time.perf_counter() - started)
            left = (len(source) - kept.done) / rate
            log.info(
                "  features of %s: %d of %d images, %.1f a second, about %d s left",
                *(split, kept.done, len(source), rate, left),
            )
    return unread


def write_labels(folder: Path, data_set: DataSet, unread: Mapping[str, str]) -> None:
    """Write targets, masks and ids of all splits; of images that could not be read no label is known."""
    known = without_unread(data_set, unread)
    for name in SPLITS:
        split = known.split(name)
        save_matrix(folder, f"{name}_targets", split.targets)
        save_array(folder / f"{name}_image_ids.npy", np.asarray(split.image_ids, dtype=np.str_))
        if split.mask is not None:
            save_matrix(folder, f"{name}_mask", split.mask)


def _digest(rows: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(rows).data).hexdigest()


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an array as .npy; a disk without room for it is an error that says so."""
    stored = new_array(path, array.dtype, array.shape)
    stored[:] = array
    stored.flush()


def save_matrix(folder: Path, name: str, matrix: Targets | Known) -> None:
    """Write a 0/1 matrix, a sparse one as the arrays that it holds."""
    if not isinstance(matrix, SparseIndicator):
        save_array(folder / f"{name}.npy", matrix)
        return
    for of, array in (matrix.named(name) | {f"{name}_width": np.array([matrix.width])}).items():
        save_array(folder / f"{of}.npy", array)


def open_matrix(folder: Path, name: str, kind: type[np.uint8 | np.bool_]) -> Any:
    """Return the 0/1 matrix that `save_matrix` wrote, memory-mapped, sparse where it was. None: there is none."""

    def opened(of: str = "") -> Any:
        file = folder / f"{name}{of}.npy"
        return np.asarray(np.load(file, mmap_mode="r", allow_pickle=False)) if file.exists() else None

    columns = opened("_columns")
    if columns is None:
        return opened()
    return SparseIndicator(opened("_starts"), columns, int(opened("_width")[0]), kind, opened("_rest"))


def new_array(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.memmap:
    """Return a memory-mapped array in a new file whose room is taken at once: writing to a map on a full disk would not
    raise an error but end the process.
    """
    with no_room_named(path):
        array: np.memmap = open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        with path.open("rb+") as file:
            reserve(file.fileno(), path.stat().st_size)
    return array
