"""Targets between 0 and 1 of training images, which the loss is trained with; everything else takes label sets."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lsep_ml.data.errors import DataError
from lsep_ml.metrics import indicator
from lsep_ml.metrics.indicator import Targets

if TYPE_CHECKING:
    from lsep_ml.data.annotations import Annotations


def soft_of_split(own: "Annotations", split: str) -> NDArray[np.float32] | None:
    """Return the soft targets of the images of a split; None where all are 0 or 1.

    Raises:
        DataError: some are neither, and the split is not training.
    """
    if own.soft is None:
        return None
    between = (own.soft > 0) & (own.soft < 1)
    if not between.any():
        return None
    if split != "train":
        row, column = np.argwhere(between)[0]
        raise DataError(
            f"data {own.data}, {split} split: the target of {own.label_names[column]!r} for "
            f"{str(own.image_ids[row])!r} is {own.soft[row, column]:g}; metrics and decisions compare label sets, so "
            "only training images may have targets between 0 and 1: list the others as val and test, with 0 and 1"
        )
    return own.soft


def soft_matrix(values: NDArray[np.floating[Any]], known: NDArray[np.bool_] | None) -> NDArray[np.float32]:
    """Return targets in [0, 1] as `Annotations.soft` has them.

    Raises:
        DataError: so many that 0/1 targets would be sparse.
    """
    if values.size >= indicator.LARGE:
        raise DataError(
            f"data.soft_targets=true: {values.shape[0]:,} x {values.shape[1]:,} targets; soft ones are held dense, and "
            f"no more than {indicator.LARGE:,} of them"
        )
    return np.where(True if known is None else known, values, 0).astype(np.float32)


def check_soft(where: str, soft: NDArray[np.float32], targets: Targets) -> None:
    """Raise DataError unless soft targets are float32 in [0, 1], and the 0/1 `targets` those of at least 1/2."""
    if soft.shape != targets.shape or soft.dtype != np.float32:
        raise DataError(f"{where}: soft targets are {soft.dtype} {soft.shape}, not float32 {targets.shape}")
    if not (soft.min() >= 0 and soft.max() <= 1):  # NaN neither
        raise DataError(f"{where}: soft targets are numbers from 0 to 1")
    if not np.array_equal(soft >= 0.5, np.asarray(targets) != 0):
        raise DataError(f"{where}: targets are not those of the soft targets that are at least 1/2")
