"""The bootstrap over images, vectorised over replicates: intervals of one run's metrics, and paired draws for several.

One run's intervals draw images, in blocks that bound the memory. The paired bootstrap keeps its draws, so that runs on
the same images are compared on the same samples. Both count a replicate's label sets in one way: as products of its
integer weights with columns of the images.
"""

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsep_ml.metrics.catalogue import BY_KEY, LABELS_PER_IMAGE
from lsep_ml.metrics.counts import IMAGE_SHARES, LabelCounts, binary, image_counts, known_entries
from lsep_ml.metrics.functional import (
    LABEL_SET_KEYS,
    check_ranking_input,
    image_ranking,
    label_set_metrics,
    label_set_value,
    labels_per_image,
    ranking_formulas,
)
from lsep_ml.metrics.metric import Floats, Metric, ratio
from lsep_ml.metrics.resampled_ranking import DrawnImages, ResampledRanking

Intervals = dict[str, tuple[float, float]]
Replicates = NDArray[np.float64]
LEVEL = 0.95
GROUPS = 5000
"""More images than this are drawn by `PairedBootstrap` in so many random groups of equal size."""

_BLOCK = 4_000_000  # weights drawn at a time: bounds the memory
_FEWEST = 16  # replicates of a pooled ranking at a time, however large it is


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

    predictions, targets, mask: (N, K) as in `count_label_sets`. further: of label sets too, and not in the catalogue.
    Deterministic in `seed`.
    """
    known: Any = known_entries(targets, mask)
    predictions, targets = binary("predictions", predictions, known), binary("targets", targets, known)
    columns = _columns(predictions, targets, known)
    blocks = [
        [_product(weights, of) for of in columns]
        for weights in replicate_weights(len(targets), replicates, seed)
    ]
    counts = _counts(*(np.vstack(sums) for sums in zip(*blocks, strict=True)))
    values = {**label_set_metrics(counts), LABELS_PER_IMAGE.key: labels_per_image(counts)}
    values |= {metric.key: label_set_value(metric.formula, counts) for metric in further}
    return intervals_of(values, level, int(known.any(1).sum()))


def bootstrap_ranking(
    scores: Any,
    targets: Any,
    mask: Any = None,
    *,
    replicates: int = 1000,
    level: float = LEVEL,
    seed: int = 0,
) -> Intervals:
    """Compute intervals of the ranking metrics, by `intervals_of` (see `ranking_metrics`), map_classes aside.

    The same `seed` draws the same images as in `bootstrap_label_sets`. In each replicate a mean over labels skips those
    for which the formula is not defined in it.
    """
    scores, targets, known = check_ranking_input(scores, targets, mask)
    rows = image_ranking(scores, targets, known)
    columns = np.stack([*rows.values(), np.ones(len(scores))], axis=1) * known.any(1)[:, None]
    pooled = _ranking(scores, targets, known) if ranking_formulas("entries") else None
    every_label = [
        _ranking(scores[:, [label]], targets[:, [label]], known[:, [label]])
        for label in range(scores.shape[1])
    ]
    blocks: list[dict[str, Floats]] = []
    for weights in replicate_weights(len(scores), replicates, seed):
        sums = weights.astype(np.float64) @ columns
        values = dict(zip(rows, ratio(sums[:, :-1], sums[:, -1:]).T, strict=True))
        drawn = DrawnImages(np.ascontiguousarray(weights.T))
        blocks.append(values | _label_means(every_label, drawn) | _pooled(pooled, drawn, known.sum()))
    values = {key: np.concatenate([block[key] for block in blocks]) for key in blocks[0]}
    return intervals_of(values, level, int(known.any(1).sum()))


class Draws(NamedTuple):
    """Holds `weights` float32 (R, G), how often a group is drawn; `order` (N,), the images by group; `starts` (G,)."""

    weights: NDArray[np.float32]
    order: NDArray[np.intp]
    starts: NDArray[np.intp]


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
        self._targets: dict[str, Floats] = {}

    def run_metrics(
        self,
        predictions: NDArray[np.uint8],
        targets: NDArray[np.uint8],
        mask: NDArray[np.uint8],
        content: str,
    ) -> Replicates:
        """Return the label-set metrics (R, M) of every replicate, in the order of LABEL_SET_KEYS.

        predictions, targets, mask: 0/1 (N, K); `content` names targets and mask, whose counts are kept.
        """
        known = mask != 0
        of_sets, of_targets, of_images = _columns((predictions != 0) & known, (targets != 0) & known, known)
        if content not in self._targets:
            self._targets[content] = self._weighted(of_targets)
        counts = _counts(self._weighted(of_sets), self._targets[content], self._weighted(of_images))
        values = label_set_metrics(counts)
        return np.stack([values[key] for key in LABEL_SET_KEYS], axis=1)

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

    def _weighted(self, columns: NDArray[Any]) -> Floats:
        """Sums of columns (N, C) over every replicate's images, (R, C)."""
        weights, order, starts = self._draws_of(len(columns))
        groups = np.add.reduceat(columns[order].astype(_exact_type(columns)), starts, axis=0)
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
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK // images)
    for start in range(0, replicates, block):
        size = min(block, replicates - start)
        draws = generator.integers(0, images, size=(size, images), dtype=np.int64)
        draws += np.arange(size)[:, None] * images
        counts = np.bincount(draws.ravel(), minlength=size * images)
        # A count above 255 does not occur: it is about Poisson(1).
        yield counts.reshape(size, images).astype(np.uint8)


def _columns(predictions: Any, targets: Any, known: Any) -> tuple[NDArray[Any], NDArray[Any], Floats]:
    """Return what a replicate sums over its images: of label sets (N, 2K), of targets (N, 2K + 1), of images (N, S).

    All bool (N, K), False where unknown. Each image's shares are float64, all else is bool.
    """
    of_images = [ratio(*share(*image_counts(predictions, targets, known))) for share in IMAGE_SHARES]
    return (
        np.hstack([predictions & targets, predictions]),
        np.hstack([targets, known, known.any(1)[:, None]]),
        np.stack(of_images, axis=1),
    )


def _counts(of_sets: Floats, of_targets: Floats, of_images: Floats) -> LabelCounts:
    """Return the counts of every replicate from the sums of `_columns`."""
    correct, predicted = np.split(of_sets, 2, axis=1)
    actual, known = np.split(of_targets[:, :-1], 2, axis=1)
    sums = dict(zip(IMAGE_SHARES, of_images.T, strict=True))
    return LabelCounts(correct, predicted, actual, known, of_targets[:, -1], sums)


def _product(weights: NDArray[np.uint8], columns: NDArray[Any]) -> Floats:
    kind = _exact_type(columns)
    return (weights.astype(kind) @ columns.astype(kind)).astype(np.float64)


def _exact_type(columns: NDArray[Any]) -> type[np.floating[Any]]:
    """Return float32, twice as fast, where it is exact: products and sums of integers below 2^24."""
    return np.float32 if columns.dtype == bool and len(columns) < 2**24 else np.float64


def _ranking(scores: NDArray[Any], targets: Any, known: Any) -> ResampledRanking | None:
    """Return the ranking of the known entries of all columns; None without a positive."""
    positive = (targets & known)[known]
    return ResampledRanking(scores[known], positive, np.nonzero(known)[0]) if positive.any() else None


def _label_means(rankings: Sequence[ResampledRanking | None], drawn: DrawnImages) -> dict[str, Floats]:
    """Return the mean over the labels of each formula, (R,)."""
    formulas = ranking_formulas("labels")
    total, defined = np.zeros((2, len(formulas), drawn.weights.shape[1]))
    for ranking in rankings:
        if ranking is None:
            continue
        cutoffs = ranking.cutoffs(drawn)
        for place, formula in enumerate(formulas.values()):
            values = formula(cutoffs)
            total[place] += np.nan_to_num(values)
            defined[place] += ~np.isnan(values)
    return dict(zip(formulas, ratio(total, defined), strict=True))


def _pooled(ranking: ResampledRanking | None, drawn: DrawnImages, entries: int) -> dict[str, Floats]:
    """Return each formula of all entries pooled, (R,); 0 where it is not defined."""
    formulas, replicates = ranking_formulas("entries"), drawn.weights.shape[1]
    values = {key: np.zeros(replicates) for key in formulas}
    size = max(_FEWEST, _BLOCK // entries)
    for start in range(0, replicates if ranking else 0, size):
        assert ranking is not None
        part = np.ascontiguousarray(drawn.weights[:, start : start + size])
        cutoffs = ranking.cutoffs(DrawnImages(part))
        for key, formula in formulas.items():
            values[key][start : start + size] = np.nan_to_num(formula(cutoffs))
    return values
