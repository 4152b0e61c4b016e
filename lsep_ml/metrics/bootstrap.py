"""The bootstrap over images, vectorised over replicates: intervals of one run's metrics, and paired draws for several.

One run's intervals draw images, in blocks that bound the memory. The paired bootstrap keeps its draws, so that runs on
the same images are compared on the same samples. Both count a replicate's label sets in one way: as products of its
integer weights with columns of the images.
"""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache, reduce
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsep_ml.metrics.catalogue import BY_KEY, LABELS_PER_IMAGE
from lsep_ml.metrics.counts import (
    IMAGE_SHARES,
    LabelCounts,
    as_held,
    check_sizes,
    image_counts,
    row_slices,
    true_entries,
)
from lsep_ml.metrics.functional import (
    LABEL_SET_KEYS,
    label_set_metrics,
    label_set_value,
    labels_per_image,
)
from lsep_ml.metrics.metric import Floats, Metric, ratio

Intervals = dict[str, tuple[float, float]]
Replicates = NDArray[np.float64]
LEVEL = 0.95
GROUPS = 5000
"""More images than this are drawn by `PairedBootstrap` in so many random groups of equal size."""

_BLOCK = 4_000_000  # weights drawn at a time: bounds the memory


def bootstrap_label_sets(
    predictions: Any,
    targets: Any,
    mask: Any = None,
    *,
    replicates: int = 1000,
    level: float = LEVEL,
    seed: int = 0,
    further: Sequence[Metric] = (),
) -> Intervals:
    """Compute intervals (low, high) of the label-set metrics and of labels_per_image, by `intervals_of`.

    predictions, targets, mask: (N, K) as in `count_label_sets`, dense or sparse. further: of label sets too, and not in
    the catalogue. Deterministic in `seed`.

    Raises ValueError for known entries other than 0 and 1, and matrices of different sizes.
    """
    check_sizes(predictions=predictions, targets=targets, mask=mask)
    known = None if mask is None else as_held(mask) != 0
    predictions = true_entries("predictions", predictions, known)
    targets = true_entries("targets", targets, known)
    answered = np.ones(len(targets), bool) if known is None else known.any(1)
    counts = _resampled(predictions, targets, known, answered, replicates, seed)
    values = {**label_set_metrics(counts), LABELS_PER_IMAGE.key: labels_per_image(counts)}
    values |= {metric.key: label_set_value(metric.formula, counts) for metric in further}
    return intervals_of(values, level, int(answered.sum()))


def _resampled(
    predictions: Any,
    targets: Any,
    known: Any,
    answered: NDArray[np.bool_],
    replicates: int,
    seed: int,
) -> LabelCounts:
    """Return the counts of every replicate; answered: bool (N,), the images that have a known entry.

    Labels are counted in blocks, which bounds the memory: the sums are of integers, and the same in any blocks.
    """
    shape = targets.shape
    columns: list[Any] = [predictions, targets, *([] if known is None else [known])]
    correct, *others = (np.empty((replicates, shape[1])) for _ in range(1 + len(columns)))
    images, of_images = np.empty(replicates), np.empty((replicates, len(IMAGE_SHARES)))
    each_image = _image_shares(predictions, targets, known)
    end = 0
    for weights in replicate_weights(shape[0], replicates, seed):
        drawn, end = slice(end, end + len(weights)), end + len(weights)
        exact = weights.astype(_exact_type(targets))
        images[drawn], of_images[drawn] = _product(exact, answered), _product(weights, each_image)
        for labels in row_slices(shape[1], shape[0]):
            right = predictions[:, labels] & targets[:, labels]
            correct[drawn, labels] = _product(exact, right)
            for total, column in zip(others, columns, strict=True):
                total[drawn, labels] = _product(exact, column[:, labels])
    predicted, actual, *of_known = others
    of_label = of_known[0] if of_known else np.broadcast_to(images[:, None], actual.shape)
    sums = dict(zip(IMAGE_SHARES, of_images.T, strict=True))
    return LabelCounts(correct, predicted, actual, of_label, images, sums)


class Draws(NamedTuple):
    """Holds `weights` float32 (R, G), how often a group is drawn; `order` (N,), the images by group; `starts` (G,)."""

    weights: NDArray[np.float32]
    order: NDArray[np.intp]
    starts: NDArray[np.intp]


class Grouped(NamedTuple):
    """Holds sums over the images of each group, of labels: in `parts` labels (C,) and their sums (G, C).

    Of the other labels no image is counted, or, where `whole`, bool (K,), is True, every one is: `sizes` (G,).
    """

    parts: list[tuple[NDArray[np.intp], NDArray[np.floating[Any]]]]
    whole: NDArray[np.bool_]
    sizes: NDArray[np.intp]


class PairedBootstrap:
    """Metrics of many runs on the same bootstrap samples of the test images.

    The draws of N images are made once and shared by every run on N images, so that differences between runs are
    paired. Up to GROUPS images are drawn one by one; more are first dealt into GROUPS random groups, which are drawn
    whole: the spread of a mean over images is the same, estimated from 5,000 groups, at a fraction of the cost.
    Deterministic in `seed`.
    """

    def __init__(self, replicates: int = 1000, seed: int = 0) -> None:
        self.replicates = replicates
        self._seed = seed
        self._draws: dict[int, Draws] = {}
        self._targets: dict[str, tuple[Grouped, Grouped, Floats]] = {}

    def run_metrics(self, predictions: Any, targets: Any, mask: Any, content: str) -> Replicates:
        """Return the label-set metrics (R, M) of every replicate, in the order of LABEL_SET_KEYS.

        predictions, targets, mask: 0/1 (N, K), dense or sparse; `content` names targets and mask, whose counts are
        kept.

        Raises ValueError for known entries other than 0 and 1, and for matrices of different sizes.
        """
        check_sizes(predictions=predictions, targets=targets, mask=mask)
        known = as_held(mask) != 0
        predictions = true_entries("predictions", predictions, known)
        targets = true_entries("targets", targets, known)
        of_images = self._weighted(_image_shares(predictions, targets, known))
        if content not in self._targets:
            answered = self._weighted(known.any(1)[:, None])[:, 0]
            self._targets[content] = self._grouped(targets), self._grouped(known), answered
        sets = self._grouped(predictions, targets), self._grouped(predictions)
        *of_targets, answered = self._targets[content]
        parts = []
        for drawn in row_slices(self.replicates, targets.shape[1], _BLOCK):
            sums = dict(zip(IMAGE_SHARES, of_images[drawn].T, strict=True))
            of_labels = (self._drawn(grouped, drawn, len(targets)) for grouped in (*sets, *of_targets))
            values = label_set_metrics(LabelCounts._make([*of_labels, answered[drawn], sums]))
            parts.append(np.stack([values[key] for key in LABEL_SET_KEYS], axis=1))
        return np.concatenate(parts)

    def mean_over_seeds(self, runs: Sequence[Replicates]) -> Replicates:
        """Return a row's replicates (R, M): the mean over its runs, which are drawn with replacement too.

        Rows of equally many runs draw the same positions, so that their seeds stay paired.
        """
        draws = np.random.default_rng([self._seed, len(runs)]).integers(
            0, len(runs), (self.replicates, len(runs))
        )
        stacked = np.stack(runs)
        every = np.arange(self.replicates)[:, None]
        mean: Replicates = stacked[draws, every].mean(axis=1)
        return mean

    def _grouped(self, *matrices: Any) -> Grouped:
        """Sums of what is 1 in all the matrices, bool (N, K), over the images of each group.

        Some labels at a time, which bounds the memory: the sums are of integers, and the same in any blocks.
        """
        _, order, starts = self._draws_of(len(matrices[0]))
        parts, whole = [], []
        for labels in row_slices(matrices[0].shape[1], len(order)):
            held = reduce(np.logical_and, (of[:, labels] for of in matrices))
            whole.append(held.all(0))
            some = np.flatnonzero(held.any(0) & ~whole[-1])
            parts.append((labels.start + some, _group_sums(held[:, some], order, starts)))
        return Grouped(parts, np.concatenate(whole), np.diff(starts, append=len(order)))

    def _drawn(self, grouped: Grouped, drawn: slice, images: int) -> Floats:
        """Sums of what is `grouped` over the images of the `drawn` replicates, (R', K)."""
        weights = self._draws_of(images).weights[drawn]
        found = np.zeros((len(weights), len(grouped.whole)))
        for labels, sums in grouped.parts:
            found[:, labels] = weights.astype(sums.dtype, copy=False) @ sums
        found[:, grouped.whole] = (weights.astype(np.float64) @ grouped.sizes)[:, None]
        return found

    def _weighted(self, columns: NDArray[Any]) -> Floats:
        """Sums of columns (N, C) over every replicate's images, (R, C)."""
        weights, order, starts = self._draws_of(len(columns))
        groups = _group_sums(columns, order, starts)
        return (weights.astype(groups.dtype, copy=False) @ groups).astype(np.float64)

    def _draws_of(self, images: int) -> Draws:
        """Return how often each group is drawn in each replicate, (R, G), and the images group by group."""
        if images not in self._draws:
            generator, groups = np.random.default_rng(self._seed), min(images, GROUPS)
            order = generator.permutation(images)
            starts = np.linspace(0, images, groups, endpoint=False).astype(np.intp)
            weights = generator.multinomial(groups, np.full(groups, 1 / groups), size=self.replicates)
            self._draws[images] = Draws(weights.astype(np.float32), order, starts)
        return self._draws[images]


def _group_sums(
    columns: NDArray[Any], order: NDArray[np.intp], starts: NDArray[np.intp]
) -> NDArray[np.floating[Any]]:
    """Sums of columns (N, C) over the images of each group, (G, C); see `Draws`."""
    sums: NDArray[np.floating[Any]] = np.add.reduceat(
        columns[order].astype(_exact_type(columns)), starts, axis=0
    )
    return sums


def percentiles(values: Floats, level: float = LEVEL) -> Floats:
    """Return the percentile interval (2, ...) over the first axis."""
    return np.quantile(values, [(1 - level) / 2, 1 - (1 - level) / 2], axis=0)


def intervals_of(values: dict[str, Floats], level: float, images: int) -> Intervals:
    """Return the interval (low, high) of each metric from its values in the replicates, (R,), of `images` that were
    drawn.

    It is the percentile interval; where that has no width, for every sample gave the same share, Wilson's of the share
    with the images as trials.
    """
    intervals = {}
    for key, replicates in values.items():
        low, high = map(float, percentiles(replicates, level))
        share = key not in BY_KEY or BY_KEY[key].unit == "%"
        if low == high and share and 0 <= low <= 1:
            low, high = wilson(low, images, level)
        intervals[key] = low, high
    return intervals


def wilson(share: float, trials: int, level: float = LEVEL) -> tuple[float, float]:
    """Compute Wilson's score interval of a `share` found in so many `trials`: every probability that is no surprise."""
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    middle = share + z2 / (2 * trials)
    half = math.sqrt(z2 * (share * (1 - share) + z2 / (4 * trials)) / trials)
    low, high = ((middle + side * half) / (1 + z2 / trials) for side in (-1, 1))
    return max(0.0, min(share, low)), min(1.0, max(share, high))


def replicate_weights(images: int, replicates: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    """Draw weights of the bootstrap in blocks (R', N): how often each image is drawn in each replicate."""
    block = max(1, _BLOCK // images)
    if replicates <= block:
        yield _in_one_block(images, replicates, seed)
        return
    generator = np.random.default_rng(seed)
    for start in range(0, replicates, block):
        yield _drawn(generator, min(block, replicates - start), images)


@lru_cache(maxsize=1)
def _in_one_block(images: int, replicates: int, seed: int) -> NDArray[np.uint8]:
    weights = _drawn(np.random.default_rng(seed), replicates, images)
    weights.flags.writeable = False  # every metric of a split, and every job of a sweep, asks for the same
    return weights


def _drawn(generator: np.random.Generator, size: int, images: int) -> NDArray[np.uint8]:
    draws = generator.integers(0, images, size=(size, images), dtype=np.int64)
    counts = np.bincount((draws + np.arange(size)[:, None] * images).ravel(), minlength=draws.size)
    return counts.reshape(size, images).astype(np.uint8)  # none is above 255: they are about Poisson(1)


def _image_shares(predictions: Any, targets: Any, known: Any) -> Floats:
    """Return each image's shares, float64 (N, S)."""
    parts = []
    for rows in row_slices(*targets.shape):
        sets = (None if held is None else np.asarray(held[rows]) for held in (predictions, targets, known))
        counts = image_counts(*sets)
        parts.append(np.stack([ratio(*share(*counts)) for share in IMAGE_SHARES], axis=1))
    return np.concatenate(parts)


def _product(weights: NDArray[Any], columns: NDArray[Any]) -> Floats:
    kind = _exact_type(columns)
    return (weights.astype(kind, copy=False) @ columns.astype(kind)).astype(np.float64)


def _exact_type(columns: NDArray[Any]) -> type[np.floating[Any]]:
    """Return float32, twice as fast, where it is exact: products and sums of integers below 2^24."""
    return np.float32 if columns.dtype == bool and len(columns) < 2**24 else np.float64
