"""Label-set counts at every threshold and at every k: for the searches of rules, search curves and the explorer.

Nothing is predicted point by point: a score is predicted at all thresholds below it, and an image's label set is
right at the thresholds from its highest negative up to its lowest positive. All of an image's scores are placed once.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lsep_ml.metrics.catalogue import exact
from lsep_ml.metrics.counts import IMAGE_SHARES, LabelCounts
from lsep_ml.metrics.metric import Floats, Share, ratio

Matrix = NDArray[Any]
_SAMPLE = 200_000  # scores looked at to choose where a slider runs


class Thresholded:
    """Scores placed among ascending thresholds, to count label sets {k: f_k > theta} at all of them.

    scores float32 (N, K), mask 0/1 (N, K), thresholds float32 (T,).
    """

    def __init__(self, scores: Matrix, mask: Matrix, thresholds: NDArray[np.float32]) -> None:
        self.steps = len(thresholds)
        self.known = np.ascontiguousarray((mask != 0).T)
        kind = np.uint8 if self.steps < 2**8 else np.uint16
        # The number of thresholds below each score, one line a label: small numbers, read in order.
        self.places: NDArray[Any] = np.searchsorted(thresholds, np.ascontiguousarray(scores.T)).astype(kind)

    def counts(self, targets: Matrix, shares: Sequence[Share] = IMAGE_SHARES) -> LabelCounts:
        """Count as `count_label_sets(scores > theta, targets, mask)` does at each theta; leading axis T.

        shares: which of the sums over images are needed.
        """
        positive = self._sets(targets)
        return LabelCounts(
            correct=self._above(positive),
            predicted=self._above(self.known),
            actual=positive.sum(1),
            known=self.known.sum(1),
            images=self.known.any(0).sum(),
            image_sums={share: self._image_sum(share, targets, positive) for share in shares},
        )

    def exact(self, sets: Matrix, images: Matrix) -> NDArray[np.int64]:
        """Return how many of `images`, bool (N,), have exactly the label sets `sets`, 0/1 (N, K), at each theta,
        (T,)."""
        wanted = self._sets(sets)
        first = np.where(self.known & ~wanted, self.places, 0).max(0).astype(np.intp)
        end = np.where(wanted, self.places, self.steps).min(0).astype(np.intp)
        counted = (first < end) & self.known.any(0) & images
        starts, ends = (np.bincount(at[counted], minlength=self.steps + 1) for at in (first, end))
        return (starts - ends).cumsum()[: self.steps]

    def _image_sum(self, share: Share, targets: Matrix, positive: Matrix) -> NDArray[Any]:
        """Return the sum of a share over the images at each theta, (T,): the changes of the entries above it."""
        if share is exact:
            return self.exact(targets, np.ones(self.places.shape[1], bool))
        images, labels = np.nonzero((self.known & self.places.astype(bool)).T)
        places = self.places[labels, images].astype(np.intp)
        order = np.argsort(images * (self.steps + 1) + self.steps - places)  # of an image, the highest first
        totals = positive.sum(0), self.known.sum(0)
        start, changes = group_changes(share, images[order], positive[labels, images][order], *totals)
        change = np.bincount(places[order], changes, self.steps + 1)
        return start.sum() + change[::-1].cumsum()[::-1][1:]

    def _sets(self, sets: Matrix) -> Matrix:
        return np.ascontiguousarray((sets != 0).T) & self.known

    def _above(self, counted: Matrix) -> NDArray[np.int64]:
        """For each threshold and label, the counted entries whose score is above it, (T, K)."""
        found = [
            np.bincount(places[chosen], minlength=self.steps + 1)
            for places, chosen in zip(self.places, counted, strict=True)
        ]
        return np.stack(found, axis=1)[::-1].cumsum(0)[::-1][1:]


class Ranked:
    """Holds the `highest` first labels of every image, to count the label sets of the k highest scores for k =
    1..highest.

    Of equal scores the lower label is first; unknown entries take part in the ranking, as in `TopK.predict`.
    """

    def __init__(self, scores: Matrix, mask: Matrix, highest: int) -> None:
        self.order = np.argsort(-scores, axis=1, kind="stable")[:, :highest]
        self.known = mask != 0
        self._counted = np.take_along_axis(self.known, self.order, 1)

    def counts(self, targets: Matrix, shares: Sequence[Share] = IMAGE_SHARES) -> LabelCounts:
        """Count as `count_label_sets` of the top-k label sets, targets and mask; leading axis k.

        shares: which of the sums over images are needed.
        """
        positive = (targets != 0) & self.known
        found = np.take_along_axis(positive, self.order, 1)
        image = found.cumsum(1), self._counted.cumsum(1), positive.sum(1)[:, None], self.known.sum(1)[:, None]
        return LabelCounts(
            correct=self._first(found),
            predicted=self._first(self._counted),
            actual=positive.sum(0),
            known=self.known.sum(0),
            images=np.any(self.known, axis=1).sum(),
            image_sums={share: ratio(*share(*image)).sum(0) for share in shares},
        )

    def exact(self, sets: Matrix, images: Matrix) -> NDArray[np.int64]:
        """Return how many of `images`, bool (N,), have exactly the label sets `sets`, 0/1 (N, K), at each k,
        (highest,)."""
        wanted = (sets != 0) & self.known
        found = np.take_along_axis(wanted, self.order, 1).cumsum(1)
        right = (found == wanted.sum(1)[:, None]) & (found == self._counted.cumsum(1))
        same: NDArray[np.int64] = (right & (images & np.any(self.known, axis=1))[:, None]).sum(0)
        return same

    def _first(self, counted: Matrix) -> NDArray[np.int64]:
        """For each k and label, the counted entries among the k first, (highest, K)."""
        labels = self.known.shape[1]
        found = [
            np.bincount(order[chosen], minlength=labels)
            for order, chosen in zip(self.order.T, counted.T, strict=True)
        ]
        return np.stack(found).cumsum(0)


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


def slider_grid(
    scores: Matrix, targets: Matrix, include: list[float], steps: int = 101
) -> NDArray[np.float32]:
    """Return ascending float32 thresholds, evenly spaced where the decision is made, with `include` among them.

    They run from predicting four times the true number of labels to predicting a fiftieth of it.
    """
    share = float(targets.mean())
    some = scores.reshape(-1)[:: max(1, scores.size // _SAMPLE)]
    low, high = np.quantile(some, [max(0.0, 1 - 4 * share), 1 - 0.02 * share])
    grid = np.linspace(low, high, steps).astype(np.float32)
    return np.unique(np.concatenate([grid, np.asarray(include, np.float32)]))
