"""Searches for the hyperparameters of rules: a criterion at every candidate, then the best one.

Candidates come in order of preference (thresholds from the largest, k from the smallest): the first of the
best wins.
"""

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
TIE = 1e-9  # criterion values this close are a tie: far above the rounding of the sums, far below one image


def first_best(values: Floats) -> int:
    """The first index whose value is the maximum, up to rounding."""
    return int((values >= values.max() - TIE).argmax())


def grid_threshold(scores: Scores, targets: Bools, known: Bools, criterion: str, steps: int) -> float:
    """The best of `steps` equally spaced thresholds from lowest to highest score; the larger on a tie."""
    grid = np.linspace(scores.min(), scores.max(), steps, dtype=np.float64).astype(np.float32)
    values = label_set_metrics(_grid_counts(scores, targets, known, grid))[criterion]
    return float(grid[::-1][first_best(values[::-1])])


def exact_threshold(scores: Scores, targets: Bools, known: Bools, criterion: str) -> float:
    """The best of all distinct cut-offs of the known scores, the larger on a tie, in O(NK log NK).

    Cut-offs lie midway between neighbouring distinct scores; two more predict nothing and everything.
    """
    ranked, labels, positive = _ranking(scores, targets, known)
    ends = np.append(ranked[1:] != ranked[:-1], True)
    distinct = ranked[ends]  # descending; candidate j predicts the scores of the first j of them
    if criterion == "exact_match":
        values = _exact_match_curve(scores, targets, known, distinct)
    else:
        curve = _count_curve(positive, labels, scores.shape[1], criterion)
        values = np.append(0.0, curve[ends])
    return float(cutoffs(distinct)[first_best(values)])


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

    def above(entries: Bools) -> NDArray[np.int64]:
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


def _ranking(scores: Scores, targets: Bools, known: Bools) -> tuple[Scores, NDArray[np.int64], Bools]:
    """All known entries by descending score: scores, their labels, whether they are positive; (M,) each.

    One sort of integers that hold all three, score first, which is faster than a sort of indices.
    """
    bits = (scores + np.float32(0)).view(np.int32)  # -0.0 becomes 0.0
    bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # in the order of the floats
    keys = (bits.astype(np.int64) << 32) | (np.arange(scores.shape[1]) << 1) | targets
    keys = keys.ravel() if known.all() else keys[known]
    keys.sort()
    keys = keys[::-1]
    bits = (keys >> 32).astype(np.int32)
    ranked = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(np.float32)
    return ranked, (keys >> 1 & 0x7FFFFFFF).astype(np.int64), (keys & 1).astype(bool)


def _count_curve(positive: Bools, labels: NDArray[np.int64], num_labels: int, criterion: str) -> Floats:
    """The criterion after each entry of a descending ranking of all entries has been predicted, (M,).

    One entry changes the counts of one label alone, so a mean over labels is the running sum of its changes.
    """
    if criterion in ("ov_p", "ov_r", "of1"):
        correct = positive.cumsum()
        precision = ratio(correct, np.arange(1, len(positive) + 1))
        recall = ratio(correct, correct[-1])
        return {"ov_p": precision, "ov_r": recall, "of1": harmonic_mean(precision, recall)}[criterion]
    # a stable sort of small integers is a radix sort
    by_label = np.argsort(labels.astype(np.uint16 if num_labels <= 2**16 else np.int64), kind="stable")
    grouped = positive[by_label]
    sizes = np.bincount(labels, minlength=num_labels)
    starts = sizes.cumsum() - sizes
    running = np.append(0, grouped.cumsum())
    actual = running[starts + sizes] - running[starts]
    predicted = np.arange(1, len(grouped) + 1) - np.repeat(starts, sizes)
    correct = running[1:] - np.repeat(running[starts], sizes)
    counts = correct, predicted, np.repeat(actual, sizes)

    def mean(name: PerClass) -> Floats:
        values = per_class_metric(name, *counts)
        change = np.diff(values, prepend=0.0)
        first = starts[sizes > 0]
        change[first] = values[first]
        ranked = np.empty_like(change)
        ranked[by_label] = change
        return ranked.cumsum() / num_labels

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


def _covering(start: NDArray[np.int64], stop: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """How many of the intervals [start, stop) hold each index 0..size - 1."""
    some = start < stop
    change = np.bincount(start[some], minlength=size + 1) - np.bincount(stop[some], minlength=size + 1)
    return change.cumsum()[:size]
