"""Arrays as decisions take them, torch or NumPy (memory maps included), and the checks of what comes in."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lsep_ml.metrics.functional import as_numpy

Array = Tensor | np.ndarray[Any, Any]
BLOCK = 8192  # rows read at a time


def float_tensor(values: Array) -> Tensor:
    """Return a float32 tensor; a NumPy array is copied, so that a read-only memory map is never written."""
    if isinstance(values, np.ndarray):
        return torch.from_numpy(np.array(values, dtype=np.float32))
    return values.to(torch.float32)


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
    missing = as_numpy(scores != scores).any(1)
    if missing.any():
        row = int(missing.argmax())
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
    with np.errstate(over="ignore"):  # too large for float32 is infinite, and refused below
        values, labels = as_numpy(scores).astype(np.float32, copy=False), as_numpy(targets)
    known = np.ones(labels.shape, bool) if mask is None else as_numpy(mask) != 0
    if not np.isfinite(values).all():
        raise ValueError("scores: infinite values; a threshold cannot be fitted on them, clip them first")
    positive, negative = (labels == 1) & known, (labels == 0) & known
    other = known & ~positive & ~negative
    if other.any():
        raise ValueError(f"targets: {labels[other][0]} found, expected only 0 and 1")
    if not positive.any() or not negative.any():
        missing = "positive" if not positive.any() else "negative"
        raise ValueError(f"targets: no known {missing} entry; fitting a decision needs both kinds")
    if values.min() == values.max():
        raise ValueError(f"scores: all equal ({values.flat[0]}); nothing can be decided from them")
