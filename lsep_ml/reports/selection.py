"""Which test images are worth a thumbnail: those that the report's figures may show."""

import numpy as np
from numpy.typing import NDArray

SPREAD = 24
_LABELS, _ORDERED, _SUSPECT = 6, 6, 2


def rows_to_show(
    scores: NDArray[np.float32],
    targets: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    thresholds: NDArray[np.float32] | None = None,
) -> NDArray[np.intp]:
    """Ascending test rows, at most 84: a few evenly spaced ones, the same in every run on a split, and by label more.

    For each of the six most frequent labels: the lowest scored positives and the highest scored negatives (likely
    mislabelled), and positives evenly spaced by their estimated threshold (Figure 4) where `thresholds` differ
    between images. All arrays (N, K); targets and mask 0/1.
    """
    known, positive = mask != 0, (targets != 0) & (mask != 0)
    rows = [spread_rows(len(scores))]
    for k in np.argsort(-positive.sum(0), kind="stable")[:_LABELS]:
        present, absent = np.flatnonzero(positive[:, k]), np.flatnonzero(known[:, k] & ~positive[:, k])
        rows.append(present[np.argsort(scores[present, k], kind="stable")[:_SUSPECT]])
        rows.append(absent[np.argsort(-scores[absent, k], kind="stable")[:_SUSPECT]])
        if thresholds is not None and np.ptp(thresholds[:, k]) > 0:
            ordered = present[np.argsort(thresholds[present, k], kind="stable")]
            rows.append(ordered[spread_rows(len(ordered), _ORDERED)])
    return np.unique(np.concatenate(rows))


def spread_rows(images: int, number: int = SPREAD) -> NDArray[np.intp]:
    """At most `number` evenly spaced rows out of `images`, ascending; the first and the last are among them."""
    if images == 0:
        return np.empty(0, np.intp)
    return np.unique(np.linspace(0, images - 1, number).round().astype(np.intp))
