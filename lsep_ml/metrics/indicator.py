"""The 0/1 matrices of images and labels: dense where that is small, else as each row's few label numbers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

LARGE = 2**28  # entries, a byte each, from which on a matrix is sparse
_BLOCK = 2**25  # entries of dense rows that are made at a time


@dataclass(frozen=True, eq=False)
class SparseIndicator:
    """Holds a 0/1 matrix (N, K) as compressed rows, and answers as the dense array does where it is asked for less.

    Rows can be chosen, added up and made dense, and labels read, all with the numbers of the dense matrix;
    `numpy.asarray` makes the whole of it dense.

    Args:
        indptr: int64 (N + 1,), where each row's columns begin in `indices`.
        indices: int32, of each row the columns that are not as the rest of it, each once, in order.
        width: K.
        kind: the dense matrix's dtype.
        rest: bool (N,), what the other columns of each row are; None: 0 everywhere.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    width: int
    kind: type[np.uint8 | np.bool_] = np.uint8
    rest: NDArray[np.bool_] | None = None

    @classmethod
    def of(
        cls,
        rows: NDArray[np.int64],
        columns: NDArray[np.integer[Any]],
        shape: tuple[int, int],
        kind: type[np.uint8 | np.bool_] = np.uint8,
        rest: NDArray[np.bool_] | None = None,
    ) -> "SparseIndicator":
        """Hold the entries of these places, in any order; one that is given twice is one."""
        cells = np.asarray(rows, np.int64) * shape[1] + columns
        if not (cells[1:] > cells[:-1]).all():
            cells = in_order(cells)
        indptr = np.searchsorted(cells, np.arange(shape[0] + 1) * shape[1])
        indices = (cells % shape[1]).astype(np.int32)
        return cls(indptr.astype(np.int64), indices, shape[1], kind, rest)

    @classmethod
    def from_dense(cls, matrix: NDArray[Any]) -> "SparseIndicator":
        """Hold a dense 0/1 matrix, of rows that are more than half 1 the places that are 0."""
        size = max(1, _BLOCK // max(8, 8 * matrix.shape[1]))  # a place takes more than an entry
        if len(matrix) > size:
            return stacked([cls.from_dense(matrix[at : at + size]) for at in range(0, len(matrix), size)])
        kind: Any = np.bool_ if matrix.dtype == bool else np.uint8
        rest = np.count_nonzero(matrix, axis=1) * 2 > matrix.shape[1]
        cells, width = np.flatnonzero(matrix != rest[:, None]), matrix.shape[1]
        indptr = np.searchsorted(cells, np.arange(len(matrix) + 1) * width).astype(np.int64)
        return cls(indptr, (cells % width).astype(np.int32), width, kind, rest if rest.any() else None)

    @classmethod
    def all_known(cls, shape: tuple[int, int]) -> "SparseIndicator":
        """Return the bool matrix that is True everywhere."""
        none, every = np.zeros(shape[0] + 1, np.int64), np.ones(shape[0], bool)
        return cls(none, np.zeros(0, np.int32), shape[1], np.bool_, every)

    @classmethod
    def found_in(cls, arrays: Mapping[str, Any], name: str, width: int) -> "SparseIndicator":
        """Take one of uint8 from arrays under the names of `named`.

        Raises KeyError for an array that is missing, and ValueError for arrays that do not belong together.
        """
        starts, columns = arrays[f"{name}_starts"], arrays[f"{name}_columns"]
        rest = arrays.get(f"{name}_rest")
        whole = (
            starts.ndim == columns.ndim == 1 and len(starts) and starts[0] == 0 and starts[-1] == len(columns)
        )
        if not whole or (np.diff(starts) < 0).any() or not (rest is None or rest.shape == (len(starts) - 1,)):
            raise ValueError(f"{name}_starts, {name}_columns and {name}_rest do not belong together")
        if len(columns) and not 0 <= columns.min() <= columns.max() < width:
            raise ValueError(f"{name}_columns: {columns.min()} to {columns.max()} of {width} labels")
        return cls(starts, columns, width, rest=rest)

    def named(self, name: str) -> dict[str, NDArray[Any]]:
        """Return its arrays, but for the width, under the names that they have in files."""
        rest = {} if self.rest is None else {f"{name}_rest": self.rest}
        return {f"{name}_starts": self.indptr, f"{name}_columns": self.indices, **rest}

    @property
    def shape(self) -> tuple[int, int]:
        """Return (N, K)."""
        return len(self.indptr) - 1, self.width

    @property
    def dtype(self) -> np.dtype:
        """Return the type of the entries of the dense matrix."""
        return np.dtype(self.kind)

    @property
    def ndim(self) -> int:
        """Return 2."""
        return 2

    @property
    def size(self) -> int:
        """Return N K."""
        return self.shape[0] * self.width

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def __getitem__(self, rows: Any) -> Any:
        """Return these rows: a row number gives a dense (K,), all else (slice, numbers, bool) is sparse again.

        Rows and labels, a number or a slice without steps, give a dense array: all rows of these labels, then the rows.
        """
        if isinstance(rows, tuple):
            rows, labels = rows
            return self._labels(labels)[rows]
        if isinstance(rows, int | np.integer):
            return np.asarray(self[[rows]])[0]
        rows = np.arange(len(self))[rows]
        starts, lengths = self.indptr[rows], np.diff(self.indptr)[rows]
        indptr = np.append(0, np.cumsum(lengths))
        places = np.repeat(starts - indptr[:-1], lengths) + np.arange(indptr[-1])
        rest = None if self.rest is None else self.rest[rows]
        return SparseIndicator(indptr, np.asarray(self.indices[places]), self.width, self.kind, rest)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        dense = np.zeros(self.shape, self.dtype)
        rows, rest = self._rows(), np.zeros(len(self), bool) if self.rest is None else self.rest
        dense[rest] = 1
        dense[rows, self.indices] = ~rest[rows]
        return dense if dtype is None else dense.astype(dtype, copy=False)

    def __ne__(self, other: object) -> Any:
        """Return the bool matrix of `!= 0`; TypeError for another number, as for all comparisons that are not held."""
        if isinstance(other, int) and other == 0:
            return replace(self, kind=np.bool_)
        return self.__eq__(other)

    def __eq__(self, other: object) -> bool:
        raise TypeError("a sparse 0/1 matrix is compared with 0 by != alone; numpy.asarray makes it dense")

    __hash__ = object.__hash__

    def astype(self, kind: DTypeLike, copy: bool = False) -> "SparseIndicator":
        """Return the same matrix as bool or uint8."""
        return replace(self, kind=np.bool_ if np.dtype(kind) == bool else np.uint8)

    def within(self, known: Any) -> "SparseIndicator":
        """Return the bool matrix that is 1 where this one is and `known`, bool (N, K) or None for all, is True."""
        if known is None or not len(self):
            return replace(self, kind=np.bool_)
        return stacked(
            [SparseIndicator.from_dense(ours & theirs) for ours, theirs in dense_blocks(self != 0, known)]
        )

    def nonzero(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the places that are 1, row by row; where there is a `rest`, of a matrix that is dense for it."""
        if self.rest is not None:
            rows, columns = np.nonzero(np.asarray(self))
            return rows, columns
        return self._rows(), self.indices.astype(np.int64)

    def sum(self, axis: int | None = None, dtype: DTypeLike | None = None) -> Any:
        """Count the entries that are 1."""
        lengths = np.diff(self.indptr)
        of_row = lengths if self.rest is None else np.where(self.rest, self.width - lengths, lengths)
        if axis == 0:
            rows = self._rows()
            signs = None if self.rest is None else np.where(self.rest[rows], -1.0, 1.0)
            found = np.bincount(self.indices, signs, self.width).astype(np.int64)
            found += 0 if self.rest is None else self.rest.sum()
        else:
            found = of_row if axis in (1, -1) else of_row.sum()
        return found.astype(dtype or (np.int64 if self.dtype == bool else np.uint64))

    def mean(self, axis: int | None = None) -> Any:
        """Return the share of the entries that are 1."""
        return self.sum(axis, np.float64) / (self.size if axis is None else self.shape[axis])

    def any(self, axis: int | None = None) -> Any:
        """Return whether an entry is 1."""
        return self.sum(axis) > 0

    def all(self, axis: int | None = None) -> Any:
        """Return whether all entries are 1."""
        return self.sum(axis) == (self.size if axis is None else self.shape[axis])

    def max(self) -> Any:
        """Return the largest entry, 0 or 1."""
        return self.dtype.type(self.any())

    @cached_property
    def _by_label(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the rows of `indices` label by label, and where those of each label begin, (K + 1,)."""
        order = np.argsort(self.indices, kind="stable")
        starts = np.append(0, np.bincount(self.indices, minlength=self.width).cumsum())
        return self._rows()[order].astype(np.int32), starts

    def _labels(self, labels: Any) -> NDArray[Any]:
        """Return the labels of all rows, dense."""
        numbers = np.arange(self.width)[labels].reshape(-1)
        dense = np.zeros((len(self), len(numbers)), self.dtype)
        if len(numbers):
            rest = np.zeros(len(self), bool) if self.rest is None else self.rest
            dense[rest] = 1
            of_labels, starts = self._by_label
            starts = starts[numbers[0] : numbers[-1] + 2]
            rows = of_labels[starts[0] : starts[-1]]
            dense[rows, np.repeat(np.arange(len(numbers)), np.diff(starts))] = ~rest[rows]
        return dense if isinstance(labels, slice) else dense[:, 0]

    def _rows(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(self)), np.diff(self.indptr))


Targets = NDArray[np.uint8] | SparseIndicator
"""0/1 (N, K)."""
Known = NDArray[np.bool_] | SparseIndicator
"""bool (N, K), True where an entry is known."""


def in_order(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return numbers in their order, each once; sorted, for many different ones are slow to tell by hashes."""
    places = np.sort(places)
    return np.asarray(places[np.append(True, places[1:] != places[:-1])]) if len(places) else places


def dense_blocks(*matrices: Any) -> Iterator[tuple[Any, ...]]:
    """Yield matrices of the same rows as dense arrays, some rows at a time where one is sparse; None stays None."""
    sparse = next((matrix for matrix in matrices if isinstance(matrix, SparseIndicator)), None)
    if sparse is None:
        yield matrices
        return
    size = max(1, _BLOCK // max(1, sparse.width))
    for start in range(0, len(sparse), size):
        rows = slice(start, start + size)
        yield tuple(None if matrix is None else np.asarray(matrix[rows]) for matrix in matrices)


def stacked(matrices: Sequence[Any]) -> Any:
    """Return matrices of the same columns below each other; sparse where one is, of the kind of the first."""
    if all(isinstance(matrix, np.ndarray) for matrix in matrices):
        return np.concatenate(matrices)
    parts = [
        matrix if isinstance(matrix, SparseIndicator) else SparseIndicator.from_dense(matrix)
        for matrix in matrices
    ]
    lengths = np.concatenate([np.diff(part.indptr) for part in parts])
    rest = None
    if any(part.rest is not None for part in parts):
        rest = np.concatenate(
            [np.zeros(len(part), bool) if part.rest is None else part.rest for part in parts]
        )
    columns = np.concatenate([part.indices for part in parts])
    return SparseIndicator(np.append(0, lengths.cumsum()), columns, parts[0].width, parts[0].kind, rest)


def places(labels_of_image: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows and columns that lists of label numbers, one a row, speak of."""
    rows = np.repeat(np.arange(len(labels_of_image)), [len(labels) for labels in labels_of_image])
    return rows, np.fromiter((label for labels in labels_of_image for label in labels), np.int64, len(rows))


def indicator(labels_of_image: Sequence[Sequence[int]], num_labels: int) -> Targets:
    """Return the 0/1 matrix (N, num_labels) of lists of label numbers."""
    return from_places(*places(labels_of_image), (len(labels_of_image), num_labels))


def from_places(rows: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, int]) -> Targets:
    """Return the 0/1 matrix that is 1 in these places, sparse from `LARGE` entries on."""
    if shape[0] * shape[1] >= LARGE:
        return SparseIndicator.of(rows, columns, shape)
    targets = np.zeros(shape, np.uint8)
    targets[rows, columns] = 1
    return targets


def known_but(
    rows: NDArray[np.int64], columns: NDArray[np.int64], rest: NDArray[np.bool_], shape: tuple[int, int]
) -> Known | None:
    """Return the bool matrix whose rows are `rest`, (N,), but in these places, where they are the other; None where all
    of it is True, sparse from `LARGE` entries on."""
    if rest.all() and not len(rows):
        return None
    known = SparseIndicator.of(rows, columns, shape, np.bool_, rest)
    if shape[0] * shape[1] >= LARGE:
        return None if known.all() else known
    dense: NDArray[np.bool_] = np.asarray(known)
    return None if dense.all() else dense
