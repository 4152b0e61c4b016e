"""The bootstrap of the ranking metrics: the cut-offs of a ranking whose images are drawn with weights."""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsep_ml.metrics.bootstrap import LEVEL, Intervals, intervals_of, replicate_weights
from lsep_ml.metrics.counts import row_slices
from lsep_ml.metrics.functional import check_ranking_input, group_ends, image_ranking, ranking_formulas
from lsep_ml.metrics.metric import Cutoffs, Floats, ratio

Integers = NDArray[np.int32]
_CHUNK = 1 << 16  # entries gathered at a time: they stay in the cache
_RANKED = 2**22  # entries whose labels' rankings are held at a time
_CELLS = 4_000_000  # entries and replicates of a pooled ranking at a time: bounds the memory
_FEWEST = 16  # replicates of it at a time, however large it is


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
    scores, *sets = check_ranking_input(scores, targets, mask)
    targets, known = map(np.asarray, sets)  # the ranking of all entries takes far more memory
    rows = image_ranking(scores, targets, known)
    columns = np.stack([*rows.values(), np.ones(len(scores))], axis=1) * known.any(1, keepdims=True)
    pooled = _ranking(scores, targets, known) if ranking_formulas("entries") else None
    blocks: list[dict[str, Floats]] = []
    for weights in replicate_weights(len(scores), replicates, seed):
        sums = weights.astype(np.float64) @ columns
        values = dict(zip(rows, ratio(sums[:, :-1], sums[:, -1:]).T, strict=True))
        blocks.append(values | _pooled(pooled, np.ascontiguousarray(weights.T), known.sum()))
    del pooled  # large, and the labels' rankings come next
    values = {key: np.concatenate([block[key] for block in blocks]) for key in blocks[0]}
    of_labels = _label_means(scores, targets, known, replicates, seed)
    return intervals_of(
        {key: values[key] for key in rows} | of_labels | values, level, int(known.any(1).sum())
    )


class DrawnImages:
    """Says how often each image is drawn in each replicate, uint8 (N, R); every replicate draws N images in all."""

    def __init__(self, weights: NDArray[np.uint8]) -> None:
        self.weights = weights
        self._packed: dict[type, NDArray[np.uint64]] = {}

    def lanes(self, highest: int) -> "Lanes":
        """Return the weights for sums of at most `highest`."""
        kind = np.uint16 if highest < 2**16 else np.uint32
        if kind not in self._packed:
            images, replicates = self.weights.shape
            each = 8 // np.dtype(kind).itemsize
            wide = np.zeros((images, -(-replicates // each) * each), kind)
            wide[:, :replicates] = self.weights
            self._packed[kind] = wide.view(np.uint64)
        return Lanes(self._packed[kind], kind, self.weights.shape[1])


class Lanes(NamedTuple):
    """Weights with the replicates side by side in 64-bit integers, (N, C): one addition serves four of them, or two."""

    packed: NDArray[np.uint64]
    kind: type
    replicates: int

    def unpacked(self, sums: NDArray[np.uint64]) -> Integers:
        """Return sums of packed rows as integers, (G, R)."""
        return np.asarray(sums.view(self.kind)[:, : self.replicates].astype(np.int32))


class ResampledRanking:
    """One ranking of entries, sorted once; its cut-offs equal those of the images repeated by their weights.

    scores, positive (bool), images: (M,) each, an entry's score, target and image. There is at least one positive.
    """

    def __init__(self, scores: NDArray[Any], positive: NDArray[np.bool_], images: Integers) -> None:
        order = np.argsort(scores)[::-1]
        scores, positive, images = scores[order], positive[order], images[order]
        ends = np.flatnonzero(group_ends(scores))
        # other ties leave the recall as it is
        ends = ends[np.diff(positive.cumsum(dtype=np.int32)[ends], prepend=0) > 0]
        self._entries = np.bincount(images)  # how many each image has
        ranked = slice(ends[-1] + 1)
        tie = np.repeat(np.arange(len(ends), dtype=np.int32), np.diff(ends, prepend=-1))
        positive, images = positive[ranked], images[ranked]
        of_tie = ~positive & (scores[ranked] == scores[ends][tie])
        self._reached, self._found, self._tied = (
            _Ties(images[chosen], tie[chosen], len(ends)) for chosen in (slice(None), positive, of_tie)
        )

    def cutoffs(self, drawn: DrawnImages) -> Cutoffs:
        """Return the cut-offs in each replicate, (G, R)."""
        lanes = drawn.lanes(int(self._entries.max()) * len(drawn.weights))
        found = self._found.sums(lanes.packed)
        true_positives = lanes.unpacked(found.cumsum(0))
        return Cutoffs(
            lanes.unpacked(found),
            true_positives,
            above=lanes.unpacked(self._reached.sums(lanes.packed).cumsum(0)),
            tied=lanes.unpacked(self._tied.sums(lanes.packed)),
            negatives=self._all_entries(drawn.weights) - true_positives[-1],
        )

    def _all_entries(self, weights: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Return how many entries of the ranking each replicate has, (R,)."""
        if len(self._entries) == len(weights) and np.ptp(self._entries) == 0:
            return np.full(weights.shape[1], self._entries.sum())
        return np.asarray(self._entries @ weights[: len(self._entries)].astype(np.int64))


class _Ties:
    """Some entries of a ranking, to be summed tie by tie.

    images (M,), ties (M,): an entry's image and, ascending, its tie; number: how many ties there are.
    """

    def __init__(self, images: Integers, ties: Integers, number: int) -> None:
        self._images, self._number = images, number
        self._starts = np.flatnonzero(np.diff(ties, prepend=-1))
        self._ties = ties[self._starts]
        first = np.searchsorted(self._starts, np.arange(0, len(images), _CHUNK))
        self._chunks = np.unique(np.append(first, len(self._starts)))

    def sums(self, packed: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Return the sums of the images' rows, (G, C); (1, C) zeros where there is no entry at all."""
        if not len(self._images):
            return np.zeros((1, packed.shape[1]), np.uint64)
        rows = self._gathered(packed)
        if len(self._ties) == self._number:
            return rows
        sums = np.zeros((self._number, packed.shape[1]), np.uint64)
        sums[self._ties] = rows
        return sums

    def _gathered(self, packed: NDArray[np.uint64]) -> NDArray[np.uint64]:
        if len(self._starts) == len(self._images):
            return packed[self._images]
        edges = np.append(self._starts, len(self._images))
        parts = [
            np.add.reduceat(packed[self._images[edges[a] : edges[b]]], edges[a:b] - edges[a], axis=0)
            for a, b in pairwise(self._chunks)
        ]
        return np.concatenate(parts)


def _ranking(scores: NDArray[Any], targets: Any, known: Any) -> ResampledRanking | None:
    """Return the ranking of the known entries of all columns; None without a positive."""
    positive = (targets & known)[known]
    images = np.repeat(np.arange(len(known), dtype=np.int32), known.sum(1))
    return ResampledRanking(scores[known], positive, images) if positive.any() else None


def _label_means(scores: Any, targets: Any, known: Any, replicates: int, seed: int) -> dict[str, Floats]:
    """Return the mean over the labels of each formula, (R,); some labels at a time, which bounds the memory."""
    formulas = ranking_formulas("labels")
    total, defined = np.zeros((2, len(formulas), replicates))
    for labels in row_slices(scores.shape[1], len(scores), _RANKED):
        numbers = range(labels.start, labels.stop)
        of_labels = [_ranking(scores[:, [k]], targets[:, [k]], known[:, [k]]) for k in numbers]
        rankings = [ranking for ranking in of_labels if ranking is not None]
        end = 0
        for weights in replicate_weights(len(scores), replicates, seed):
            replicate, end = slice(end, end + len(weights)), end + len(weights)
            drawn = DrawnImages(np.ascontiguousarray(weights.T))
            for ranking in rankings:
                cutoffs = ranking.cutoffs(drawn)
                for place, formula in enumerate(formulas.values()):
                    values = formula(cutoffs)
                    total[place, replicate] += np.nan_to_num(values)
                    defined[place, replicate] += ~np.isnan(values)
    return dict(zip(formulas, ratio(total, defined), strict=True))


def _pooled(ranking: ResampledRanking | None, weights: NDArray[np.uint8], entries: int) -> dict[str, Floats]:
    """Return each formula of all entries pooled, (R,), by the weights (N, R); 0 where it is not defined."""
    formulas, replicates = ranking_formulas("entries"), weights.shape[1]
    values = {key: np.zeros(replicates) for key in formulas}
    size = max(_FEWEST, _CELLS // entries)
    for start in range(0, replicates if ranking else 0, size):
        assert ranking is not None
        cutoffs = ranking.cutoffs(DrawnImages(np.ascontiguousarray(weights[:, start : start + size])))
        for key, formula in formulas.items():
            values[key][start : start + size] = np.nan_to_num(formula(cutoffs))
    return values
