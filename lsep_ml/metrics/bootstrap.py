"""Percentile intervals of the metrics by the bootstrap over images, vectorised over replicates."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsep_ml.metrics.functional import (
    Floats,
    LabelCounts,
    as_numpy,
    check_ranking_input,
    group_ends,
    image_ranking,
    label_set_metrics,
    ratio,
)

Intervals = dict[str, tuple[float, float]]
_BLOCK = 4_000_000  # weights drawn at a time: bounds the memory


def bootstrap_label_sets(
    predictions: Any,
    targets: Any,
    mask: Any = None,
    *,
    replicates: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Intervals:
    """Percentile intervals (low, high) of the label-set metrics and of labels_per_image.

    predictions, targets, mask: (N, K) as in `count_label_sets`; labels_per_image is the mean number of labels
    predicted. The counts of a replicate are a product of its integer weights with 0/1 matrices: exact, and no
    image is copied. Deterministic in `seed`.
    """
    predictions, targets = as_numpy(predictions) != 0, as_numpy(targets) != 0
    known: Any = np.ones(targets.shape, bool) if mask is None else as_numpy(mask) != 0
    predictions, targets = predictions & known, targets & known
    images = known.any(1)
    exact = ~(predictions ^ targets).any(1) & images
    # float32 products and sums of integers below 2^24 are exact, and twice as fast
    dtype: Any = np.float32 if len(targets) < 2**24 else np.float64
    columns = np.hstack(
        [predictions & targets, predictions, targets, exact[:, None], images[:, None]]
    ).astype(dtype)
    counts = np.vstack(
        [weights.astype(dtype) @ columns for weights in _weights(len(targets), replicates, seed)]
    )
    correct, predicted, actual = np.split(counts[:, :-2].astype(np.float64), 3, axis=1)
    n_images = counts[:, -1]
    values = label_set_metrics(LabelCounts(correct, predicted, actual, counts[:, -2], n_images))
    values["labels_per_image"] = ratio(predicted.sum(1), n_images)
    return _percentiles(values, level)


def bootstrap_ranking(
    scores: Any, targets: Any, mask: Any = None, *, replicates: int = 1000, level: float = 0.95, seed: int = 0
) -> Intervals:
    """Percentile intervals of map, ranking_loss, coverage, one_error and lrap (see `ranking_metrics`).

    The same `seed` draws the same images as in `bootstrap_label_sets`. A replicate's map skips the labels
    that have no positive in it.
    """
    scores, targets, known = check_ranking_input(scores, targets, mask)
    images = known.any(1)
    rows = image_ranking(scores, targets, known)
    columns = np.stack([*rows.values(), np.ones(len(scores))], axis=1) * images[:, None]
    means, maps = [], []
    for weights in _weights(len(scores), replicates, seed):
        sums = weights.astype(np.float64) @ columns
        means.append(ratio(sums[:, :-1], sums[:, -1:]))
        maps.append(_weighted_map(scores, targets, known, np.ascontiguousarray(weights.T)))
    values = dict(zip(rows, np.vstack(means).T, strict=True))
    return _percentiles({"map": np.concatenate(maps), **values}, level)


def _weights(images: int, replicates: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    """Multinomial weights in blocks (R', N): how often each image is drawn in each replicate."""
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK // images)
    for start in range(0, replicates, block):
        size = min(block, replicates - start)
        draws = generator.integers(0, images, size=(size, images), dtype=np.int64)
        draws += np.arange(size)[:, None] * images
        counts = np.bincount(draws.ravel(), minlength=size * images)
        yield counts.reshape(size, images).astype(
            np.uint8
        )  # a count above 255 does not occur: it is about Poisson(1)


def _weighted_map(
    scores: NDArray[Any], targets: NDArray[np.bool_], known: NDArray[np.bool_], weights: NDArray[np.uint8]
) -> Floats:
    """map of every replicate, (R,), with image weights (N, R); equal to repeating the images."""
    total, defined = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
    for label in range(scores.shape[1]):
        rows = np.flatnonzero(known[:, label])
        order = rows[np.argsort(scores[rows, label])[::-1]]
        positive = targets[order, label]
        if not positive.any():
            continue
        ends = np.flatnonzero(group_ends(scores[order, label][None])[0])
        ends = ends[
            np.diff(positive.cumsum()[ends], prepend=0) > 0
        ]  # only ties with a positive move the recall
        starts = np.concatenate([[0], ends[:-1] + 1])
        ranked = weights[order]
        above = np.add.reduceat(ranked[: ends[-1] + 1], starts, axis=0, dtype=np.int64).cumsum(0)
        groups = np.searchsorted(ends, np.flatnonzero(positive))
        starts = np.concatenate([[0], np.flatnonzero(np.diff(groups)) + 1])
        found = np.add.reduceat(ranked[positive], starts, axis=0, dtype=np.int64)
        true_positives = found.cumsum(0)
        precision = ratio((found * ratio(true_positives, above)).sum(0), true_positives[-1])
        total += precision
        defined += true_positives[-1] > 0
    return ratio(total, defined)


def _percentiles(values: dict[str, Floats], level: float) -> Intervals:
    tail = (1 - level) / 2
    bounds = {key: np.quantile(replicates, [tail, 1 - tail]) for key, replicates in values.items()}
    return {key: (float(low), float(high)) for key, (low, high) in bounds.items()}
