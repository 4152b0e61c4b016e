"""The cut-offs of a ranking whose images are drawn with weights: what the bootstrap of a ranking metric sees."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsep_ml.metrics.functional import group_ends
from lsep_ml.metrics.metric import Cutoffs

Weights = NDArray[np.uint8]


class ResampledRanking:
    """One ranking of entries, sorted once; its cut-offs equal those of the images repeated by their weights.

    scores, positive (bool), images: (M,) each, an entry's score, target and image. There is at least one positive.
    """

    def __init__(self, scores: NDArray[Any], positive: NDArray[np.bool_], images: NDArray[np.intp]) -> None:
        order = np.argsort(scores)[::-1]
        scores, positive, self._images = scores[order], positive[order], images[order]
        ends = np.flatnonzero(group_ends(scores[None])[0])
        ends = ends[np.diff(positive.cumsum()[ends], prepend=0) > 0]  # other ties leave the recall as it is
        self._above = np.concatenate([[0], ends[:-1] + 1])  # where the entries down to a tie begin
        self._last = int(ends[-1]) + 1
        self._found = _Groups(ends, positive)
        tie = np.searchsorted(ends, np.arange(self._last))
        self._tied = _Groups(ends, ~positive[: self._last] & (scores[: self._last] == scores[ends][tie]))

    def cutoffs(self, weights: Weights) -> Cutoffs:
        """The cut-offs with image weights (N, R), how often each image is drawn in each replicate: (G, R)."""
        above = np.add.reduceat(
            weights[self._images[: self._last]], self._above, axis=0, dtype=np.int64
        ).cumsum(0)
        found = self._found.sums(weights, self._images)
        true_positives = found.cumsum(0)
        negatives = weights[self._images].sum(0, dtype=np.int64) - true_positives[-1]
        return Cutoffs(found, true_positives, above, self._tied.sums(weights, self._images), negatives)


class _Groups:
    """Some entries of a ranking, by the tie that they stand in; ends (G,): the last place of each tie."""

    def __init__(self, ends: NDArray[np.intp], chosen: NDArray[np.bool_]) -> None:
        self._entries = np.flatnonzero(chosen)
        self._size = len(ends)
        self._ties, self._starts = np.unique(np.searchsorted(ends, self._entries), return_index=True)

    def sums(self, weights: Weights, images: NDArray[np.intp]) -> NDArray[np.int64]:
        """The entries' weights, summed tie by tie, (G, R); (1, R) zeros where there is no entry at all."""
        drawn = weights[images[self._entries]]
        if not len(drawn):
            return np.zeros((1, weights.shape[1]), np.int64)
        if len(self._starts) < len(drawn):
            drawn = np.add.reduceat(drawn, self._starts, axis=0, dtype=np.int64)
        if len(self._ties) == self._size:
            return drawn.astype(np.int64)
        sums = np.zeros((self._size, weights.shape[1]), np.int64)
        sums[self._ties] = drawn
        return sums
