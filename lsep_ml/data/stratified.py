"""Splits that keep each label's share, for images that come without a split."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit
from numpy.typing import NDArray

from lsep_ml.data.annotations import Annotations
from lsep_ml.data.errors import DataError


def stratified_split(annotations: Annotations, shares: Sequence[float], seed: int) -> Annotations:
    """Divide all images into train, val and test so that each label keeps its share in each.

    Iterative stratification (Sechidis, Tsoumakas, Vlahavas: On the stratification of multi-label data, 2011).
    An unknown entry counts as absent.

    Args:
        shares: of train, val and test; positive, with sum 1. Sizes come out near them: labels go first.
        seed: the split is a function of the labels and the seed.
    """
    shares = tuple(float(share) for share in shares)
    if len(shares) != 3 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise DataError(f"data.shares={list(shares)}: three positive shares (train, val, test) with sum 1")
    if len(annotations) < 3:
        raise DataError(
            f"data {annotations.data}: {len(annotations)} usable images; three splits need at least 3"
        )
    everything = np.arange(len(annotations))
    rest, test = _divide(everything, annotations.targets, shares[2], seed)
    train, val = _divide(rest, annotations.targets, shares[1] / (shares[0] + shares[1]), seed)
    parts = np.empty(len(annotations), "U5")
    for name, rows in (("train", train), ("val", val), ("test", test)):
        parts[rows] = name
    return dataclasses.replace(annotations, parts=parts)


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
