"""Label-set counts at every threshold and at every k: for the searches of rules, search curves and the explorer.

Nothing is predicted point by point: a score is predicted at all thresholds below it, and an image's label set is
right at the thresholds from its highest negative up to its lowest positive. All of an image's scores are placed once.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsep_ml.metrics.catalogue import exact
from lsep_ml.metrics.counts import IMAGE_SHARES, LabelCounts, row_slices
from lsep_ml.metrics.metric import Floats, Share, ratio

Matrix = NDArray[Any]
_ENTRIES = 2**22  # of a matrix that are looked at at a time
_SAMPLE = 200_000  # scores looked at to choose where a slider runs


class Thresholded:
    """Scores placed among ascending thresholds, to count label sets {k: f_k > theta} at all of them.

    scores float32 (N, K), mask 0/1 (N, K), dense or sparse, thresholds float32 (T,). own: float32 (N, K), thresholds
    that are taken from the scores first; None: there are none. Some labels at a time are looked at, which bounds the
    memory beside the places, a byte or two an entry.
    """

    def __init__(
        self, scores: Matrix, mask: Any, thresholds: NDArray[np.float32], own: Matrix | None = None
    ) -> None:
        self.steps = len(thresholds)
        self._mask = mask
        # The number of thresholds below each score, one line a label: small numbers, read in order.
        self.places: NDArray[Any] = np.empty(scores.shape[::-1], np.uint8 if self.steps < 2**8 else np.uint16)
        for labels in row_slices(scores.shape[1], len(scores), _ENTRIES):
            values = scores[:, labels] if own is None else scores[:, labels] - own[:, labels]
            self.places[labels] = np.searchsorted(thresholds, np.ascontiguousarray(values.T))

    def counts(self, targets: Any, shares: Sequence[Share] = IMAGE_SHARES) -> LabelCounts:
        """Count as `count_label_sets(scores > theta, targets, mask)` does at each theta; leading axis T.

        targets: 0/1 (N, K), dense or sparse. shares: which of the sums over images are needed.
        """
        parts = [
            (self._above(labels, positive), self._above(labels, known), positive.sum(1), known.sum(1))
            for labels, positive, known in self._blocks(targets)
        ]
        of_labels = (np.concatenate(of, axis=-1) for of in zip(*parts, strict=True))
        images = self._mask.any(1).sum()
        sums = {share: self._image_sum(share, targets) for share in shares}
        return LabelCounts._make([*of_labels, images, sums])

    def exact(self, sets: Any, images: Matrix) -> NDArray[np.int64]:
        """Return how many of `images`, bool (N,), have exactly the label sets `sets`, 0/1 (N, K), at each theta,
        (T,)."""
        first = np.zeros(len(images), np.intp)
        end = np.full(len(images), self.steps)
        for labels, wanted, known in self._blocks(sets):
            places = self.places[labels]
            first = np.maximum(first, np.where(known & ~wanted, places, 0).max(0))
            end = np.minimum(end, np.where(wanted, places, self.steps).min(0))
        counted = (first < end) & self._mask.any(1) & images
        starts, ends = (np.bincount(at[counted], minlength=self.steps + 1) for at in (first, end))
        return (starts - ends).cumsum()[: self.steps]

    def _image_sum(self, share: Share, targets: Any) -> NDArray[Any]:
        """Return the sum of a share over the images at each theta, (T,): the changes of the entries above it."""
        if share is exact:
            return self.exact(targets, np.ones(len(targets), bool))
        start, change = 0.0, np.zeros(self.steps + 1)
        for rows in row_slices(len(targets), targets.shape[1], _ENTRIES):
            known, wanted = (np.asarray(of[rows]) != 0 for of in (self._mask, targets))
            wanted &= known
            placed = np.ascontiguousarray(self.places[:, rows].T)
            images, labels = np.nonzero(known & (placed > 0))
            places = placed[images, labels].astype(np.intp)
            # Of an image, the highest first.
            order = np.argsort(images * (self.steps + 1) + self.steps - places)
            totals = wanted.sum(1), known.sum(1)
            first, changes = group_changes(share, images[order], wanted[images, labels][order], *totals)
            start += first.sum()
            change += np.bincount(places[order], changes, self.steps + 1)
        return start + change[::-1].cumsum()[::-1][1:]

    def _blocks(self, sets: Any) -> Iterator[tuple[slice, Matrix, Matrix]]:
        """Yield some labels at a time: known entries of `sets` and all known ones, bool (B, N)."""
        for labels in row_slices(len(self.places), self.places.shape[1], _ENTRIES):
            known, wanted = (np.ascontiguousarray((of[:, labels] != 0).T) for of in (self._mask, sets))
            yield labels, wanted & known, known

    def _above(self, labels: slice, counted: Matrix) -> NDArray[np.int64]:
        """For each threshold and label, the counted entries, bool (B, N), whose score is above it, (T, B)."""
        found = [
            np.bincount(places[chosen], minlength=self.steps + 1)
            for places, chosen in zip(self.places[labels], counted, strict=True)
        ]
        return np.stack(found, axis=1)[::-1].cumsum(0)[::-1][1:]


class Ranked:
    """Holds the `highest` first labels of every image, to count the label sets of the k highest scores for k =
    1..highest.

    scores float (N, K), mask 0/1 (N, K), dense or sparse. Of equal scores the lower label is first; unknown entries
    take part in the ranking, as in `TopK.predict`. Some images at a time are looked at, which bounds the memory.
    """

    def __init__(self, scores: Matrix, mask: Any, highest: int) -> None:
        blocks = row_slices(len(scores), scores.shape[1], _ENTRIES)
        self.order = np.concatenate([_first_labels(scores[rows], highest) for rows in blocks])
        self._mask = mask

    def counts(self, targets: Any, shares: Sequence[Share] = IMAGE_SHARES) -> LabelCounts:
        """Count as `count_label_sets` of the top-k label sets, `targets` 0/1 (N, K) and mask; leading axis k.

        shares: which of the sums over images are needed.
        """
        found, counted, wanted, known, actual, of_known = self._among_first(targets)
        image = found.cumsum(1), counted.cumsum(1), wanted[:, None], known[:, None]
        return LabelCounts(
            correct=self._first(found, len(actual)),
            predicted=self._first(counted, len(actual)),
            actual=actual,
            known=of_known,
            images=(known > 0).sum(),
            image_sums={share: ratio(*share(*image)).sum(0) for share in shares},
        )

    def exact(self, sets: Any, images: Matrix) -> NDArray[np.int64]:
        """Return how many of `images`, bool (N,), have exactly the label sets `sets`, 0/1 (N, K), at each k,
        (highest,)."""
        first, counted, wanted, known, *_ = self._among_first(sets)
        found = first.cumsum(1)
        right = (found == wanted[:, None]) & (found == counted.cumsum(1))
        same: NDArray[np.int64] = (right & (images & (known > 0))[:, None]).sum(0)
        return same

    def _among_first(self, sets: Any) -> tuple[Matrix, ...]:
        """Return which of the first labels are known entries of `sets`, and known, bool (N, highest); how many there
        are in each image, (N,) each; and of each label, (K,) each."""
        actual: Any = 0
        of_known: Any = 0
        parts = []
        for rows in row_slices(len(sets), sets.shape[1], _ENTRIES):
            known = np.asarray(self._mask[rows]) != 0
            wanted = (np.asarray(sets[rows]) != 0) & known
            first = (np.take_along_axis(of, self.order[rows], 1) for of in (wanted, known))
            parts.append((*first, wanted.sum(1), known.sum(1)))
            actual, of_known = actual + wanted.sum(0), of_known + known.sum(0)
        return *(np.concatenate(of) for of in zip(*parts, strict=True)), actual, of_known

    def _first(self, counted: Matrix, labels: int) -> NDArray[np.int64]:
        """For each k and label, the counted entries among the k first, (highest, K)."""
        found = [
            np.bincount(order[chosen], minlength=labels)
            for order, chosen in zip(self.order.T, counted.T, strict=True)
        ]
        return np.stack(found).cumsum(0)


def _first_labels(scores: Matrix, highest: int) -> NDArray[np.intp]:
    """Return the labels of the highest scores of each image, (N, highest), of equal ones the lower label first."""
    lowest = np.partition(scores, -highest, axis=1)[:, -highest]
    images, labels = np.nonzero(scores >= lowest[:, None])  # with ties more than these
    ranked = labels[np.lexsort((labels, -scores[images, labels], images))]
    starts = np.searchsorted(images, np.arange(len(scores)))
    return ranked[starts[:, None] + np.arange(highest)]


def group_changes(
    share: Share, groups: NDArray[np.integer[Any]], positive: NDArray[np.bool_], actual: Matrix, known: Matrix
) -> tuple[Floats, Floats]:
    """Return how much each entry changes its group's share when entries are predicted one after another.

    groups, positive: (M,), each entry's label or image, ascending, and its target; within a group in the order in which
    they are predicted. actual, known: (G,), of each group. Returns the shares of the groups when nothing is predicted,
    (G,), and the changes, (M,): a sum of shares is the first ones' sum and a running sum of changes.
    """
    sizes = np.bincount(groups, minlength=len(actual))
    starts = sizes.cumsum() - sizes
    running = np.append(0, positive.cumsum())
    predicted = np.arange(1, len(groups) + 1) - np.repeat(starts, sizes)
    correct = running[1:] - np.repeat(running[starts], sizes)
    shares = ratio(*share(correct, predicted, np.repeat(actual, sizes), np.repeat(known, sizes)))
    nothing = np.zeros(len(actual), np.int64)
    start = ratio(*share(nothing, nothing, actual, known))
    changes = np.diff(shares, prepend=0.0)
    first = starts[sizes > 0]
    changes[first] = shares[first] - start[sizes > 0]
    return start, changes


def search_grid(scores: Matrix, steps: int = 50) -> NDArray[np.float32]:
    """Return the paper's candidates for one threshold: `steps` equally spaced values from lowest to highest score."""
    return np.linspace(scores.min(), scores.max(), steps, dtype=np.float64).astype(np.float32)


def slider_grid(scores: Matrix, targets: Any, include: list[float]) -> NDArray[np.float32]:
    """Return ascending float32 thresholds, evenly spaced where the decision is made, with `include` among them.

    They run from predicting four times the true number of labels to predicting a fiftieth of it. scores: (N, K), or
    those of them that `thinned` gives.
    """
    share = float(targets.mean())
    low, high = np.quantile(thinned(scores), [max(0.0, 1 - 4 * share), 1 - 0.02 * share])
    grid = np.linspace(low, high, 101).astype(np.float32)
    return np.unique(np.concatenate([grid, np.asarray(include, np.float32)]))


def thinned(scores: Matrix) -> Matrix:
    """Return every n-th of the `scores`, so that of very many some hundred thousand are left, one after another."""
    places = np.arange(0, scores.size, max(1, scores.size // _SAMPLE))
    return scores[np.unravel_index(places, scores.shape)]
