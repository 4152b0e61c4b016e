"""Label-set counts at every threshold and at every k, for search curves and the decision explorer.

Nothing is predicted point by point: a score is predicted at all thresholds below it, and an image's label set is
right at the thresholds from its highest negative up to its lowest positive.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsep_ml.metrics.functional import LabelCounts

Matrix = NDArray[Any]


def count_at_thresholds(
    scores: Matrix, targets: Matrix, mask: Matrix, thresholds: NDArray[np.float32]
) -> LabelCounts:
    """Counts of the label sets {k: f_k > theta} for ascending thresholds (T,); leading axis T.

    scores float32 (N, K), targets and mask 0/1 (N, K). Equal to `count_label_sets(scores > theta, targets, mask)` at
    every theta.
    """
    places = np.searchsorted(thresholds, scores)  # the number of thresholds below the score
    known, positive = mask != 0, (targets != 0) & (mask != 0)
    return LabelCounts(
        correct=_above(places, positive, len(thresholds)),
        predicted=_above(places, known, len(thresholds)),
        actual=positive.sum(0),
        exact=exact_at_thresholds(places, positive, known, len(thresholds)),
        images=known.any(1).sum(),
    )


def exact_at_thresholds(
    places: NDArray[np.intp], positive: Matrix, known: Matrix, steps: int, only: Matrix | None = None
) -> NDArray[np.int64]:
    """How many images have the label set `positive` at each of the thresholds, (T,).

    places (N, K): the number of thresholds below each score. known (N, K): the entries that count; an image without
    one is left out. only (N,): count these images alone.
    """
    first = np.where(known & ~positive, places, 0).max(1)
    end = np.where(positive, places, steps).min(1)
    counted = (first < end) & known.any(1)
    if only is not None:
        counted &= only
    changes = np.bincount(first[counted], minlength=steps + 1) - np.bincount(
        end[counted], minlength=steps + 1
    )
    return changes.cumsum()[:steps]


def count_at_k(scores: Matrix, targets: Matrix, mask: Matrix, highest: int) -> LabelCounts:
    """Counts of the k highest scores for k = 1..highest; leading axis k. Of equal scores the lower label is first.

    Equal to `count_label_sets` of the top-k sets; unknown entries take part in the ranking, as in `TopK.predict`.
    """
    known, positive = mask != 0, (targets != 0) & (mask != 0)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :highest]
    hits = np.take_along_axis(positive, order, 1)
    counted = np.take_along_axis(known, order, 1)
    labels = scores.shape[1]
    return LabelCounts(
        correct=np.stack(
            [np.bincount(order[hits[:, p], p], minlength=labels) for p in range(highest)]
        ).cumsum(0),
        predicted=np.stack(
            [np.bincount(order[counted[:, p], p], minlength=labels) for p in range(highest)]
        ).cumsum(0),
        actual=positive.sum(0),
        exact=same_at_k(hits, counted, positive.sum(1), np.any(known, axis=1)),
        images=known.any(1).sum(),
    )


def same_at_k(hits: Matrix, counted: Matrix, sizes: Matrix, images: Matrix) -> NDArray[np.int64]:
    """How many of `images` (N,) have their whole set, and nothing else that counts, among the k highest, (highest,).

    hits, counted (N, highest): whether the label at this place is in the set, and whether it counts; sizes (N,): the
    sets' sizes.
    """
    found = hits.cumsum(1)
    right = (found == sizes[:, None]) & (counted.cumsum(1) == found)
    same: NDArray[np.int64] = (right & images[:, None]).sum(0)
    return same


def threshold_grid(
    scores: Matrix, targets: Matrix, include: list[float], steps: int = 101
) -> NDArray[np.float32]:
    """Ascending float32 thresholds, evenly spaced where the decision is made, with `include` among them.

    They run from predicting four times the true number of labels to predicting a fiftieth of it.
    """
    share = float(targets.mean())
    low, high = np.quantile(scores, [max(0.0, 1 - 4 * share), 1 - 0.02 * share])
    grid = np.linspace(low, high, steps).astype(np.float32)
    return np.unique(np.concatenate([grid, np.asarray(include, np.float32)]))


def _above(places: NDArray[np.intp], counted: Matrix, steps: int) -> NDArray[np.int64]:
    """For each threshold and label, the counted entries whose score is above it, (T, K)."""
    labels = places.shape[1]
    flat = places + (steps + 1) * np.arange(labels)
    found = np.bincount(flat[counted], minlength=labels * (steps + 1)).reshape(labels, steps + 1)
    return found[:, ::-1].cumsum(1)[:, ::-1][:, 1:].T
