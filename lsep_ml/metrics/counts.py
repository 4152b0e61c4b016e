"""Counts of label sets: the sufficient statistics of every metric on them."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsep_ml.metrics.catalogue import LABEL_SET_METRICS, exact
from lsep_ml.metrics.indicator import SparseIndicator
from lsep_ml.metrics.metric import Floats, Formula, HarmonicMean, Share

ENTRIES = 2**24
"""Entries of a matrix that are counted at a time, which bounds the memory."""


class LabelCounts(NamedTuple):
    """Sufficient statistics of the label-set metrics; leading axes (...) are replicates, such as thresholds.

    correct, predicted, actual: N^c, N^p, N^g of eqn 27, the images in which a label is predicted rightly, predicted,
    and true, (..., K); known: those in which it is known. images: images with at least one known entry, (...).
    image_sums: the sum over the images, (...), of each share that a metric averages over images.
    """

    correct: Any
    predicted: Any
    actual: Any
    known: Any
    images: Any
    image_sums: Mapping[Share, Any]

    @property
    def exact(self) -> Any:
        """Count the images whose label set is right on every known entry, (...)."""
        return np.rint(self.image_sums[exact]).astype(np.int64)


def count_label_sets(predictions: Any, targets: Any, mask: Any = None) -> LabelCounts:
    """Count label sets `predictions` and `targets`, 0/1 arrays or tensors (..., N, K), or sparse, over the images.

    mask: True where the target is known. An unknown entry is neither predicted nor true, and an image without
    any known entry is left out.

    Raises ValueError for known entries other than 0 and 1, and for matrices of different sizes.
    """
    given = [each if hasattr(each, "shape") else np.asarray(each) for each in (predictions, targets)]
    check_sizes(predictions=given[0], targets=given[1], mask=mask)
    images, labels = given[1].shape[-2:]
    # Sums of integers: the same whatever is counted together.
    rows = row_slices(images, labels) if given[1].ndim == 2 and given[0].ndim == 2 else [...]
    parts = [_sums(given[0][of], given[1][of], None if mask is None else mask[of], of) for of in rows]
    correct, predicted, actual, known, answered = (
        sum(of) for of in zip(*(part[:5] for part in parts), strict=True)
    )
    numerators = {share: sum(part[5][share] for part in parts) for share in IMAGE_SHARES}
    sums = {share: sum_of_ratios(of) for share, of in numerators.items()}
    return LabelCounts(correct, predicted, actual, known, answered, sums)


def _sums(predictions: Any, targets: Any, mask: Any, rows: Any) -> tuple[Any, ...]:
    """Return the fields of `LabelCounts` of these rows, the last as `image_numerators`."""
    first = rows.start if isinstance(rows, slice) else 0
    known = None if mask is None else as_numpy(mask) != 0
    predictions = binary("predictions", predictions, known, first)
    targets = binary("targets", targets, known, first)
    return (
        (predictions & targets).sum(-2),
        predictions.sum(-2),
        targets.sum(-2),
        np.broadcast_to(targets.shape[-2], targets.shape[-1:]) if known is None else known.sum(-2),
        targets.shape[-2] if known is None else known.any(-1).sum(-1),
        image_numerators(predictions, targets, known),
    )


def row_slices(images: int, labels: int, entries: int | None = None) -> list[slice]:
    """Return the rows of a matrix (images, labels) in blocks of about so many entries (`ENTRIES`), at least one
    block."""
    size = max(1, (entries or ENTRIES) // max(1, labels))
    return [slice(start, min(start + size, images)) for start in range(0, max(1, images), size)]


class ComparedLabels(NamedTuple):
    """Label sets beside the truth, bool (..., K): true positives, false positives and false negatives."""

    found: Any
    wrong: Any
    missed: Any


def compare_label_sets(predictions: Any, targets: Any, mask: Any = None) -> ComparedLabels:
    """Return which labels `predictions` finds, predicts wrongly and misses; all 0/1 or bool (..., K).

    mask: True where the target is known; an unknown entry is none of the three.
    """
    predicted, true = predictions != 0, targets != 0
    known = True if mask is None else mask != 0
    return ComparedLabels(predicted & true & known, predicted & ~true & known, ~predicted & true & known)


def image_shares(*formulas: Formula) -> tuple[Share, ...]:
    """Return what the formulas average over images, each share once."""
    parts = [
        part
        for formula in formulas
        for part in (formula if isinstance(formula, HarmonicMean) else (formula,))
    ]
    return tuple(dict.fromkeys(part.of for part in parts if part.over == "images"))


IMAGE_SHARES = image_shares(*(metric.formula for metric in LABEL_SET_METRICS))


def image_numerators(predictions: Any, targets: Any, known: Any) -> dict[Share, NDArray[np.int64]]:
    """Sum for each share of the images its numerators by denominator 0..2K, (..., 2K + 1).

    Integers, so that sums over batches are exact in any order. predictions, targets: bool (..., N, K), False where
    unknown; known: bool, or None where all is.
    """
    image = image_counts(predictions, targets, known)
    highest = 2 * targets.shape[-1]
    return {share: numerators_by_denominator(*share(*image), highest) for share in IMAGE_SHARES}


def image_counts(predictions: Any, targets: Any, known: Any) -> tuple[Any, Any, Any, Any]:
    """Return each image's labels predicted rightly, predicted, true and known, (..., N); see `image_numerators`."""
    correct = (predictions & targets).sum(-1)
    of_known = np.broadcast_to(targets.shape[-1], correct.shape) if known is None else known.sum(-1)
    return correct, predictions.sum(-1), targets.sum(-1), of_known


def numerators_by_denominator(numerator: Any, denominator: Any, highest: int) -> NDArray[np.int64]:
    """Sum over the images, the last axis, integer numerators for each denominator 0..highest."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    lead, size = numerator.shape[:-1], highest + 1
    cells = denominator + size * np.arange(math.prod(lead)).reshape(*lead, 1)
    sums = np.bincount(cells.ravel(), numerator.ravel(), size * math.prod(lead))  # exact: far below 2^53
    return sums.astype(np.int64).reshape(*lead, size)


def sum_of_ratios(numerators: Any) -> Floats:
    """Return the sum of all ratios, (...), from `numerators_by_denominator`; a ratio with the denominator 0 counts
    0."""
    numerators = as_numpy(numerators)[..., 1:]
    return np.asarray((numerators / np.arange(1, numerators.shape[-1] + 1)).sum(-1))


def check_sizes(**matrices: Any) -> None:
    """Raise ValueError unless all that are not None have the same N and K, their last two axes: none is repeated."""
    shapes = {name: tuple(np.shape(values)) for name, values in matrices.items() if values is not None}
    (first, size), *others = shapes.items()
    for name, shape in others:
        if len(size) < 2 or shape[-2:] != size[-2:]:
            raise ValueError(f"{name}: shape {shape}, but {first} have {size}; expected (N, K) of both")


def binary(name: str, values: Any, known: NDArray[np.bool_] | None, first: int = 0) -> NDArray[np.bool_]:
    """Return known 0/1 values (..., N, K) as a bool array, False where unknown; `first` numbers the first row.

    Raises ValueError for any other known value; names its row and column, counted from 0.
    """
    values = as_numpy(values)
    blocks = [...] if values.ndim != 2 or values.size < ENTRIES else row_slices(*values.shape)
    for rows in blocks if values.dtype != bool else []:
        other = (values[rows] != 0) & (values[rows] != 1)
        if known is not None:
            other &= known[rows]
        if other.any():
            place = tuple(np.argwhere(other)[0])
            *_, row, column = place
            row += first + (0 if rows is ... else rows.start)
            found = values[rows][place]
            raise ValueError(f"{name}: {found} found in row {row}, column {column}, expected only 0 and 1")
    return values != 0 if known is None else (values != 0) & known


def known_entries(targets: Any, mask: Any) -> NDArray[np.bool_]:
    """Return where the entries of `targets` (N, K) are known by `mask`, bool (N, K); everywhere where that is None."""
    known: NDArray[np.bool_] = np.ones(tuple(targets.shape), bool) if mask is None else as_numpy(mask) != 0
    return known


def held_known(targets: Any, mask: Any) -> Any:
    """Return what `known_entries` does, sparse where the mask is or, without one, the targets are."""
    if mask is None and isinstance(targets, SparseIndicator):
        return SparseIndicator.all_known(targets.shape)
    return known_entries(targets, mask) if mask is None else as_held(mask) != 0


def true_entries(name: str, values: Any, known: Any) -> Any:
    """Return 0/1 values (N, K) as `binary` does, sparse ones sparse; `known` bool (N, K) of either kind, None: all."""
    values = as_held(values)
    return values.within(known) if isinstance(values, SparseIndicator) else binary(name, values, known)


def as_held(values: Any) -> Any:
    """Return what is held otherwise than as an array, such as a sparse matrix, as it is, and a torch tensor as NumPy.
    Of all, rows can be taken, and labels of all rows, which `numpy.asarray` makes dense."""
    return values if hasattr(values, "shape") and not hasattr(values, "detach") else as_numpy(values)


def as_numpy(values: Any) -> Any:
    """Return a NumPy view of an array, or of a torch tensor on any device (bfloat16 as float32: NumPy lacks it)."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values
    return np.asarray(values)
