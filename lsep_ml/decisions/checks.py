"""Arrays as decisions take them, torch or NumPy (memory maps included), and the checks of what comes in."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lsep_ml.metrics.counts import as_numpy, row_slices

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
