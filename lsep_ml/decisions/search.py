"""Searches for the hyperparameters of rules: a criterion at every candidate, then the best one.

Candidates come in order of preference (thresholds from the largest, k from the smallest): the first of the
best wins.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsep_ml.metrics.functional import (
    Floats,
    LabelCounts,
    PerClass,
    harmonic_mean,
    label_set_metrics,
    per_class_metric,
    ratio,
)

Bools = NDArray[np.bool_]
Scores = NDArray[np.float32]
Integers = NDArray[np.int64]
TIE = 1e-9  # criterion values this close are a tie: far above the rounding of the sums, far below one image


def first_best(values: Floats) -> int:
    """The first index whose value is the maximum, up to rounding."""
    return int((values >= values.max() - TIE).argmax())


def grid_threshold(scores: Scores, targets: Bools, known: Bools, criterion: str, steps: int) -> float:
    """The best of `steps` equally spaced thresholds from lowest to highest score; the larger on a tie."""
    grid = np.linspace(scores.min(), scores.max(), steps, dtype=np.float64).astype(np.float32)
    values = label_set_metrics(_grid_counts(scores, targets, known, grid))[criterion]
    return float(grid[::-1][first_best(values[::-1])])


class Ranking(NamedTuple):
    """Known entries of a score matrix by descending score, (M,) each.

    places: where they stand in the matrix, row * num_labels + label; positive: whether their target is 1.
    """

    scores: Scores
    places: NDArray[np.uint32]
    positive: Bools
    num_labels: int

    @property
    def rows(self) -> NDArray[np.uint32]:
        return self.places // np.uint32(self.num_labels)

    @property
    def labels(self) -> NDArray[np.uint32]:
        return self.places - self.rows * np.uint32(self.num_labels)

    def take(self, entries: Any) -> "Ranking":
        """Some of the entries: a mask, a slice or indices."""
        return Ranking(self.scores[entries], self.places[entries], self.positive[entries], self.num_labels)


def rank_entries(scores: Scores, targets: Bools, known: Bools) -> Ranking:
    """Rank the known entries of scores, (N, K), by one sort of integers that hold score and place.

    That is faster than a sort of indices. Raises ValueError for 2^32 entries and more.
    """
    if scores.size >= 2**32:
        raise ValueError(f"scores: {scores.size} entries; an exact search ranks less than 2^32")
    bits = ~_ordered((scores + np.float32(0)).view(np.int32).ravel())  # descending; -0.0 becomes 0.0
    keys = bits.astype(np.int64) << 32
    keys |= np.arange(scores.size)
    keys = keys if known.all() else keys[known.ravel()]
    keys.sort()
    places = keys.astype(np.uint32)  # the lower half
    keys >>= 32
    ranked = _ordered(~keys.astype(np.int32)).view(np.float32)
    return Ranking(ranked, places, targets.ravel()[places], scores.shape[1])


def _ordered(bits: NDArray[np.int32]) -> NDArray[np.int32]:
    """The bits of floats as integers of the same order, and back."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def exact_threshold(
    scores: Scores, targets: Bools, known: Bools, criterion: str, ranking: Ranking | None = None
) -> float:
    """The best of all distinct cut-offs of the known scores, the larger on a tie, in O(NK log NK).

    Cut-offs lie midway between neighbouring distinct scores; two more predict nothing and everything.
    ranking: that of the known entries, if there already.
    """
    ranking = ranking or rank_entries(scores, targets, known)
    ends = group_ends(ranking.scores)
    distinct = ranking.scores[ends]  # descending; candidate j predicts the scores of the first j of them
    if criterion == "exact_match":
        values = _exact_match_curve(scores, targets, known, distinct)
    else:
        curve = _count_curve(ranking, criterion)
        values = np.append(0.0, curve[ends])
    return float(cutoffs(distinct)[first_best(values)])


def by_label(ranking: Ranking) -> tuple[Integers, Integers]:
    """The order that groups a ranking by label, (M,), and where each label's entries end in it, (K,)."""
    labels = ranking.labels
    small = labels.astype(np.uint16) if ranking.num_labels <= 2**16 else labels  # sorted by radix
    return np.argsort(small, kind="stable"), np.bincount(labels, minlength=ranking.num_labels).cumsum()


def group_ends(ranked: Scores) -> Bools:
    """True at the last entry of every run of equal scores."""
    return np.append(ranked[1:] != ranked[:-1], True)


def cutoffs(distinct: Scores) -> Scores:
    """Thresholds around distinct descending scores, (M + 1,): the highest, midways, below all."""
    between = ((distinct[1:].astype(np.float64) + distinct[:-1]) / 2).astype(np.float32)
    between = np.where(between < distinct[:-1], between, distinct[1:])  # no float32 in between
    return np.concatenate([distinct[:1], between, np.nextafter(distinct[-1:], np.float32(-np.inf))])


def _grid_counts(scores: Scores, targets: Bools, known: Bools, grid: Scores) -> LabelCounts:
    """Counts at every threshold of an ascending grid, (T, K): one histogram a label, summed from the top."""
    num_labels, bins = scores.shape[1], len(grid) + 1
    below = np.searchsorted(grid, scores, side="left")  # how many thresholds a score exceeds
    cells = below + np.arange(num_labels) * bins

    def above(entries: Bools) -> Integers:
        histogram = np.bincount(cells[entries], minlength=num_labels * bins).reshape(num_labels, bins)
        return histogram[:, ::-1].cumsum(1)[:, -2::-1].T

    low, high = _exact_intervals(scores, targets, known)
    start, stop = np.searchsorted(grid, low), np.searchsorted(grid, high)
    positives = targets & known
    return LabelCounts(
        correct=above(positives),
        predicted=above(known),
        actual=positives.sum(0),
        exact=_covering(start, stop, len(grid)),
        images=len(low),
    )


def _count_curve(ranking: Ranking, criterion: str) -> Floats:
    """The criterion after each entry of a ranking has been predicted, (M,).

    One entry changes the counts of one label alone, so a mean over labels is the running sum of its changes.
    """
    if criterion in ("ov_p", "ov_r", "of1"):
        correct = ranking.positive.cumsum()
        precision = ratio(correct, np.arange(1, len(correct) + 1))
        recall = ratio(correct, correct[-1])
        return {"ov_p": precision, "ov_r": recall, "of1": harmonic_mean(precision, recall)}[criterion]
    order, stops = by_label(ranking)
    sizes = np.diff(stops, prepend=0)
    starts = stops - sizes
    running = np.append(0, ranking.positive[order].cumsum())
    predicted = np.arange(1, len(order) + 1) - np.repeat(starts, sizes)
    correct = running[1:] - np.repeat(running[starts], sizes)
    actual = np.repeat(running[stops] - running[starts], sizes)

    def mean(name: PerClass) -> Floats:
        values = per_class_metric(name, correct, predicted, actual)
        change = np.diff(values, prepend=0.0)
        first = starts[sizes > 0]
        change[first] = values[first]
        ranked = np.empty_like(change)
        ranked[order] = change
        return ranked.cumsum() / ranking.num_labels

    if criterion == "cf1":
        return harmonic_mean(mean("precision"), mean("recall"))
    names: dict[str, PerClass] = {"pc_p": "precision", "pc_r": "recall", "f1": "f1"}
    return mean(names[criterion])


def _exact_match_curve(scores: Scores, targets: Bools, known: Bools, distinct: Scores) -> Floats:
    """Exact match when the scores of the first j distinct values are predicted, j = 0..M, (M + 1,)."""
    low, high = _exact_intervals(scores, targets, known)
    ascending = distinct[::-1]
    # an image is exact from the j that takes in its lowest positive to the j before its highest negative
    start = np.where(np.isinf(high), 0, len(distinct) - np.searchsorted(ascending, high))
    stop = np.where(np.isinf(low), len(distinct) + 1, len(distinct) - np.searchsorted(ascending, low))
    return ratio(_covering(start, stop, len(distinct) + 1), len(low))


def _exact_intervals(scores: Scores, targets: Bools, known: Bools) -> tuple[Scores, Scores]:
    """Per image with a known entry, the thresholds [low, high) that predict its known labels exactly."""
    some = known.max(1)
    low = np.where(~targets & known, scores, np.float32(-np.inf)).max(1)[some]
    high = np.where(targets & known, scores, np.float32(np.inf)).min(1)[some]
    return low, high


def _covering(start: Integers, stop: Integers, size: int) -> Integers:
    """How many of the intervals [start, stop) hold each index 0..size - 1."""
    some = start < stop
    change = np.bincount(start[some], minlength=size + 1) - np.bincount(stop[some], minlength=size + 1)
    return change.cumsum()[:size]
