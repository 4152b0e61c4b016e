"""Splits that keep each label's share, for images that come without a split."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit
from numpy.typing import NDArray

from lsep_ml.data.annotations import Annotations
from lsep_ml.data.cache import cache_file, load_arrays, save_arrays
from lsep_ml.data.errors import DataError

FORMAT = 1  # of the cached split


def stratified_split(
    annotations: Annotations, shares: Sequence[float], seed: int, cache: str | Path | None
) -> Annotations:
    """Divide all images into train, val and test so that each label keeps its share in each.

    Iterative stratification (Sechidis, Tsoumakas, Vlahavas: On the stratification of multi-label data, 2011).
    An unknown entry counts as absent.

    Args:
        shares: of train, val and test; positive, with sum 1. Sizes come out near them: labels go first.
        seed: the split is a function of the labels and the seed.
        cache: folder that keeps the split; it takes seconds for a hundred thousand images.
    """
    shares = tuple(float(share) for share in shares)
    if len(shares) != 3 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise DataError(f"data.shares={list(shares)}: three positive shares (train, val, test) with sum 1")
    if len(annotations) < 3:
        raise DataError(
            f"data {annotations.data}: {len(annotations)} usable images; three splits need at least 3"
        )
    targets = annotations.targets
    content = hashlib.sha256(np.ascontiguousarray(targets).tobytes()).hexdigest()
    stored_at = cache_file(cache, "split", FORMAT, content, targets.shape, shares, seed)
    stored = load_arrays(stored_at)
    if stored is None:
        stored = {"parts": _draw(targets, shares, seed)}
        save_arrays(stored_at, **stored)
    return dataclasses.replace(annotations, parts=stored["parts"])


def _draw(targets: NDArray[np.uint8], shares: Sequence[float], seed: int) -> NDArray[np.str_]:
    rest, test = _divide(np.arange(len(targets)), targets, shares[2], seed)
    train, val = _divide(rest, targets, shares[1] / (shares[0] + shares[1]), seed)
    parts = np.empty(len(targets), "U5")
    for name, rows in (("train", train), ("val", val), ("test", test)):
        parts[rows] = name
    return parts


def _divide(
    rows: NDArray[np.int64], targets: NDArray[np.uint8], share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows in two, neither empty, the second with about this share of them."""
    size = min(max(round(share * len(rows)), 1), len(rows) - 1)
    splitter = MultilabelStratifiedShuffleSplit(n_splits=1, test_size=size, random_state=seed)
    first, second = next(splitter.split(rows, targets[rows]))
    if len(second) == 0:  # with a handful of images, every label asks for the larger part
        first, second = np.split(np.random.default_rng(seed).permutation(len(rows)), [len(rows) - size])
    return rows[np.sort(first)], rows[np.sort(second)]
