"""The cut-offs of a ranking whose images are drawn with weights: what the bootstrap of a ranking metric sees."""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsep_ml.metrics.functional import group_ends
from lsep_ml.metrics.metric import Cutoffs

Integers = NDArray[np.int32]
_CHUNK = 1 << 16  # entries gathered at a time: they stay in the cache


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

    def __init__(self, scores: NDArray[Any], positive: NDArray[np.bool_], images: NDArray[np.intp]) -> None:
        order = np.argsort(scores)[::-1]
        scores, positive, images = scores[order], positive[order], images[order]
        ends = np.flatnonzero(group_ends(scores))
        ends = ends[np.diff(positive.cumsum()[ends], prepend=0) > 0]  # other ties leave the recall as it is
        ranked = np.arange(ends[-1] + 1)
        tie = np.searchsorted(ends, ranked)
        of_tie = ~positive[ranked] & (scores[ranked] == scores[ends][tie])
        self._reached, self._found, self._tied = (
            _Ties(images[chosen], tie[chosen], len(ends))
            for chosen in (ranked, ranked[positive[ranked]], ranked[of_tie])
        )
        self._entries = np.bincount(images)  # how many each image has

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

    def __init__(self, images: NDArray[np.intp], ties: NDArray[np.intp], number: int) -> None:
        self._images, self._number = images, number
        self._ties, self._starts = np.unique(ties, return_index=True)
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
