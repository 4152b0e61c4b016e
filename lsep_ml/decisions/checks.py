"""Arrays as decisions take them, torch or NumPy (memory maps included), some of them at a time, and the checks of what
comes in."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from lsep_ml.metrics.counts import as_held, as_numpy, known_entries, row_slices
from lsep_ml.metrics.label_blocks import LabelBlock

Array = Tensor | np.ndarray[Any, Any]
BLOCK = 8192  # rows read at a time


def float_tensor(values: Array) -> Tensor:
    """Return a float32 tensor; a NumPy array is copied, so that a read-only memory map is never written."""
    if isinstance(values, Tensor):
        return values.to(torch.float32)
    return torch.from_numpy(np.array(values, dtype=np.float32))


def row_blocks(values: Array, size: int | None = None) -> Iterator[Tensor]:
    """Return the rows as float32 tensors, `size` (None: `BLOCK`) at a time: a memory map is never read as a whole."""
    size = size or BLOCK
    for start in range(0, max(len(values), 1), size):
        yield float_tensor(values[start : start + size])


class MatrixRows(NamedTuple):
    """Holds some rows of a matrix: scores float32 (N, K), targets and which entries are known, bool (N, K)."""

    scores: NDArray[np.float32]
    targets: NDArray[np.bool_]
    known: NDArray[np.bool_]


@dataclass(frozen=True)
class MatrixBlocks:
    """Reads a matrix of scores (N, K), which may be memory-mapped, its targets and the mask of its known entries (None:
    all are), dense or sparse: `block` labels at a time, or some rows."""

    scores: Any
    targets: Any
    mask: Any = None
    block: int = 64

    @classmethod
    def of(cls, scores: Array, targets: Array, mask: Array | None = None) -> "MatrixBlocks":
        """Read arrays or tensors."""
        return cls(as_held(scores), as_held(targets), None if mask is None else as_held(mask))

    def __iter__(self) -> Iterator[LabelBlock]:
        for start in range(0, self.scores.shape[1], self.block):
            labels = slice(start, start + self.block)
            scores = np.ascontiguousarray(self.scores[:, labels], np.float32)
            known = None if self.mask is None else self.mask[:, labels] != 0
            yield LabelBlock(start, scores, self.targets[:, labels] != 0, known)

    def rows(self, numbers: NDArray[np.integer[Any]] | None = None) -> Iterator[MatrixRows]:
        """Give the rows of these numbers (None: all) in their order, as many at a time as `row_slices` says."""
        for rows in row_slices(len(self.scores) if numbers is None else len(numbers), self.scores.shape[1]):
            yield self._entries(rows if numbers is None else numbers[rows])

    def whole(self) -> MatrixRows:
        """Return all rows at once, for what is a ranking of all of them."""
        return self._entries(slice(None))

    def take(self, rows: NDArray[np.integer[Any]]) -> "MatrixBlocks":
        """Return the rows of these numbers; many scores are read when they are asked for."""
        mask = None if self.mask is None else self.mask[rows]
        return MatrixBlocks(ChosenRows(self.scores, rows), self.targets[rows], mask, self.block)

    def judged(self) -> NDArray[np.int64]:
        """Return the numbers of the rows with a known entry."""
        known = True if self.mask is None else (self.mask != 0).any(1)
        return np.flatnonzero(np.broadcast_to(known, len(self.scores)))

    def _entries(self, rows: Any) -> MatrixRows:
        scores = np.asarray(self.scores[rows]).astype(np.float32, copy=False)
        mask = None if self.mask is None else np.asarray(self.mask[rows])
        return MatrixRows(scores, np.asarray(self.targets[rows]) != 0, known_entries(scores, mask))


class RowMatrix(ABC):
    """A matrix (N, K) whose rows are read, or computed, when they are asked for."""

    ndim: ClassVar[int] = 2
    shape: Any
    by_labels: bool = True
    """Whether some labels of all rows can be asked for too; False where the others would be computed as well."""

    @property
    def size(self) -> int:
        """Return N K."""
        return int(self.shape[0] * self.shape[1])

    def __len__(self) -> int:
        return int(self.shape[0])

    @abstractmethod
    def __getitem__(self, at: Any) -> NDArray[Any]:
        """Return some rows, or entries of them, as of an array."""

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)


def gives_labels(matrix: Any) -> bool:
    """Return whether some labels of all rows can be asked of a matrix, as of every array."""
    return bool(getattr(matrix, "by_labels", True))


class ChosenRows(RowMatrix):
    """Holds rows of a matrix (N, K) by their numbers (M,)."""

    def __init__(self, matrix: Any, rows: NDArray[np.integer[Any]]) -> None:
        self.matrix, self.rows = matrix, rows
        self.shape, self.dtype = (len(rows), matrix.shape[1]), matrix.dtype
        self.by_labels = gives_labels(matrix)

    def __getitem__(self, at: Any) -> NDArray[Any]:
        if not isinstance(at, tuple):
            return np.asarray(self.matrix[self.rows[at]])
        rows, labels = at
        return np.asarray(self.matrix[self.rows[rows], labels])


class StackedRows(RowMatrix):
    """Holds matrices of the same labels below each other."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts, self.ends = parts, np.cumsum([len(part) for part in parts])
        self.shape = int(self.ends[-1]), parts[0].shape[1]
        self.dtype = np.result_type(*(part.dtype for part in parts))
        self.by_labels = all(map(gives_labels, parts))

    def __getitem__(self, at: Any) -> NDArray[Any]:
        rows, labels = at if isinstance(at, tuple) else (at, None)
        numbers = np.arange(len(self))[rows]
        of_part = np.searchsorted(self.ends, numbers, side="right")
        found = None
        for number, part in enumerate(self.parts):
            inside = of_part == number
            own = numbers[inside] - (self.ends[number] - len(part))
            values = part[own] if labels is None else part[own, labels]
            if found is None:
                found = np.empty((len(numbers), *values.shape[1:]), self.dtype)
            found[inside] = values
        assert found is not None
        return found


def check_scores(scores: Array, num_labels: int = 0) -> None:
    """Raise ValueError unless scores are (N, K), without NaN, and K is `num_labels` (0: any)."""
    if scores.ndim != 2 or scores.shape[1] == 0:
        raise ValueError(f"scores: shape {tuple(scores.shape)}, expected (N, K) with K >= 1")
    if num_labels and scores.shape[1] != num_labels:
        raise ValueError(f"scores: {scores.shape[1]} labels, but the decision was made for {num_labels}")
    for rows in row_slices(*scores.shape):
        block = scores[rows]
        missing = as_numpy(block != block).any(1)
        if missing.any():
            row = rows.start + int(missing.argmax())
            raise ValueError(f"scores: NaN in row {row}; a decision needs a number for every label")


def check_features(features: Array | None, rows: int, num_features: int, name: str) -> Array:
    """Return the features; raises ValueError when missing or not (rows, num_features). `name` is the decision's."""
    if features is None:
        raise ValueError(f"{name} decides from features, got none; pass features=(N, {num_features})")
    if tuple(features.shape) != (rows, num_features):
        raise ValueError(f"features: shape {tuple(features.shape)}, {name} expects ({rows}, {num_features})")
    return features


def check_fit(scores: Array, targets: Array, mask: Array | None) -> None:
    """Raise ValueError for data that no decision can be fitted on, naming what is wrong.

    Refused: other shapes than (N, K) for all, no rows, NaN or infinite scores, known targets other than 0 and
    1, no known positive or no known negative, and scores that are all equal.
    """
    check_scores(scores)
    for name, values in (("targets", targets), ("mask", mask)):
        if values is not None and values.shape != scores.shape:
            raise ValueError(f"{name}: shape {tuple(values.shape)}, but scores have {tuple(scores.shape)}")
    if len(scores) == 0:
        raise ValueError("scores: no rows; a decision cannot be fitted on an empty split")
    blocks = [
        _seen(*(None if values is None else as_numpy(values[rows]) for values in (scores, targets, mask)))
        for rows in row_slices(*scores.shape)
    ]
    if not all(block.finite for block in blocks):
        raise ValueError("scores: infinite values; a threshold cannot be fitted on them, clip them first")
    for block in blocks:
        if block.other.size:
            raise ValueError(f"targets: {block.other[0]} found, expected only 0 and 1")
    positive, negative = any(block.positive for block in blocks), any(block.negative for block in blocks)
    if not positive or not negative:
        missing = "negative" if positive else "positive"
        raise ValueError(f"targets: no known {missing} entry; fitting a decision needs both kinds")
    least = min(block.least for block in blocks)
    if least == max(block.largest for block in blocks):
        raise ValueError(f"scores: all equal ({least}); nothing can be decided from them")


class _Seen(NamedTuple):
    """Says what is in some rows; other: known targets that are neither 0 nor 1."""

    finite: bool
    positive: bool
    negative: bool
    other: np.ndarray[Any, Any]
    least: np.float32
    largest: np.float32


def _seen(scores: Any, targets: Any, mask: Any) -> _Seen:
    with np.errstate(over="ignore"):  # too large for float32 is infinite, and refused
        values = scores.astype(np.float32, copy=False)
    known = np.ones(targets.shape, bool) if mask is None else mask != 0
    positive, negative = (targets == 1) & known, (targets == 0) & known
    other = targets[known & ~positive & ~negative]
    return _Seen(np.isfinite(values).all(), positive.any(), negative.any(), other, values.min(), values.max())
