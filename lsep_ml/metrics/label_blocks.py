"""Metrics where (N, K) scores would not fit: computed block by block of labels, each block once, none of them kept.

A block holds the scores and targets of some labels for all images. What a metric needs of a label lies in its block;
what it needs of an image is summed over the blocks. The numbers are those of the whole matrix, to the last bit.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsep_ml.metrics.bootstrap import LEVEL, Intervals, intervals_of, replicate_weights
from lsep_ml.metrics.catalogue import LABELS_PER_IMAGE
from lsep_ml.metrics.counts import IMAGE_SHARES, LabelCounts, numerators_by_denominator, sum_of_ratios
from lsep_ml.metrics.functional import label_set_metrics, labels_per_image
from lsep_ml.metrics.metric import ratio


class LabelBlock(NamedTuple):
    """Holds the labels `start` to `start` + B: their scores float32 (N, B), targets bool (N, B), and which entries are
    known, bool (N, B) (None: all)."""

    start: int
    scores: NDArray[np.float32]
    targets: NDArray[np.bool_]
    known: NDArray[np.bool_] | None = None

    @property
    def labels(self) -> slice:
        """Return where the labels stand among all K."""
        return slice(self.start, self.start + self.scores.shape[1])


@dataclass(frozen=True)
class LinearScores:
    """Scores f = W x + b of a score layer, computed whenever they are read: an iteration gives every block once.

    features: float (N, D), read as float32; weight: float32 (K, D); bias: float32 (K,); targets: 0/1 (N, K), a
    `SparseIndicator` or dense; block: labels at a time, so that N x block scores stand in memory.
    """

    features: NDArray[Any]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    targets: Any
    block: int = 256

    def __iter__(self) -> Iterator[LabelBlock]:
        features = np.asarray(self.features, np.float32)
        for start in range(0, len(self.weight), self.block):
            labels = slice(start, start + self.block)
            scores = features @ self.weight[labels].T
            scores += self.bias[labels]
            yield LabelBlock(start, scores, self.targets[:, labels] != 0)


class CountsByBlock:
    """Counts label sets whose labels come block by block, and their bootstrap.

    images: N; replicates, seed: of the bootstrap, which draws the same images as `bootstrap_label_sets` does.
    """

    def __init__(self, images: int, *, replicates: int = 0, seed: int = 0) -> None:
        self.images = images
        drawn = list(replicate_weights(images, replicates, seed)) if replicates else []
        self._weights = np.vstack(drawn).astype(np.float32) if drawn else None  # exact: far below 2^24
        self._labels: list[tuple[NDArray[np.int64], ...]] = []
        self._replicates: list[tuple[NDArray[np.float32], ...]] = []
        self._of_images = np.zeros((3, images), np.int64)  # of each image: labels found, predicted, true

    def add(self, predictions: NDArray[np.bool_], targets: NDArray[np.bool_]) -> None:
        """Count a block: its label sets and its targets, bool (N, B); blocks come in the order of the labels."""
        sets = predictions & targets, predictions, targets
        self._labels.append(tuple(of.sum(0) for of in sets))
        self._of_images += np.stack([of.sum(1) for of in sets])
        if self._weights is not None:
            self._replicates.append(tuple(self._weights @ of.astype(np.float32) for of in sets))

    def counts(self) -> LabelCounts:
        """Count as `count_label_sets` of all labels at once."""
        correct, predicted, actual = (np.concatenate(of) for of in zip(*self._labels, strict=True))
        image = *self._of_images, np.int64(len(actual))
        sums = {
            share: sum_of_ratios(numerators_by_denominator(*share(*image), 2 * len(actual)))
            for share in IMAGE_SHARES
        }
        known = np.broadcast_to(np.int64(self.images), actual.shape)
        return LabelCounts(correct, predicted, actual, known, np.int64(self.images), sums)

    def intervals(self, level: float = LEVEL) -> Intervals:
        """Compute as `bootstrap_label_sets` of all labels at once; there are replicates."""
        assert self._weights is not None
        correct, predicted, actual = (
            np.concatenate(of, axis=1).astype(np.float64) for of in zip(*self._replicates, strict=True)
        )
        image = *self._of_images, np.int64(actual.shape[1])
        weights = self._weights.astype(np.float64)
        sums = {share: weights @ ratio(*share(*image)) for share in IMAGE_SHARES}
        images = weights.sum(1)
        known = np.broadcast_to(images[:, None], actual.shape)
        counts = LabelCounts(correct, predicted, actual, known, images, sums)
        values = {**label_set_metrics(counts), LABELS_PER_IMAGE.key: labels_per_image(counts)}
        return intervals_of(values, level, self.images)
