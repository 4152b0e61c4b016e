"""Searches for the hyperparameters of rules: a criterion at every candidate, then the best one.

Candidates come in order of preference (thresholds from the largest, k from the smallest): the first of the best wins. A
criterion is searched for its highest gain, which is minus its value where lower is better.
"""

from collections.abc import Iterable
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsep_ml.decisions.checks import MatrixBlocks
from lsep_ml.metrics import Metric
from lsep_ml.metrics.counts import LabelCounts, image_shares
from lsep_ml.metrics.functional import group_ends, label_set_value
from lsep_ml.metrics.metric import Floats, Formula, HarmonicMean, harmonic_mean, ratio
from lsep_ml.metrics.operating_points import Ranked, Thresholded, group_changes, search_grid

Bools = NDArray[np.bool_]
Scores = NDArray[np.float32]
Integers = NDArray[np.int64]
TIE = 1e-9  # criterion values this close are a tie: far above the rounding of the sums, far below one image
RANKED = 2**32
"""Entries that no exact search ranks: their numbers have 32 bits."""


def first_best(gains: Floats) -> int:
    """Return the first index whose gain is the maximum, up to rounding."""
    return int((gains >= gains.max() - TIE).argmax())


def criterion_gain(criterion: Metric, counts: LabelCounts) -> Floats:
    """Return what the search maximises, (...), from counts."""
    gains: Floats = criterion.gain(label_set_value(criterion.formula, counts))
    return gains


def add_counts(first: LabelCounts, second: LabelCounts) -> LabelCounts:
    """Return the counts of two sets of images together."""
    sums = {share: total + second.image_sums[share] for share, total in first.image_sums.items()}
    return LabelCounts._make([*(a + b for a, b in zip(first[:-1], second[:-1], strict=True)), sums])


def grid_threshold(matrix: MatrixBlocks, criterion: Metric, steps: int) -> float:
    """Return the best of `steps` equally spaced thresholds from lowest to highest score; the larger on a tie."""
    span = [(scores.min(), scores.max()) for scores, _, _ in matrix.rows()]
    grid, shares = search_grid(np.array(span, np.float32), steps), image_shares(criterion.formula)
    counts = _summed(
        Thresholded(rows.scores, rows.known, grid).counts(rows.targets, shares) for rows in matrix.rows()
    )
    return float(grid[::-1][first_best(criterion_gain(criterion, counts)[::-1])])


def best_k(matrix: MatrixBlocks, criterion: Metric, lowest: int, highest: int) -> int:
    """Return the best k of lowest..highest for the k highest scores of every image; the smaller on a tie."""
    shares = image_shares(criterion.formula)
    counts = _summed(
        Ranked(rows.scores, rows.known, highest).counts(rows.targets, shares) for rows in matrix.rows()
    )
    return lowest + first_best(criterion_gain(criterion, counts)[lowest - 1 :])


def _summed(counts: Iterable[LabelCounts]) -> LabelCounts:
    return reduce(add_counts, counts)


class Totals(NamedTuple):
    """Counts the positives and the known entries, (2, ...): of each label, (K,), and of each image, (N,)."""

    labels: Integers
    images: Integers


class Ranking(NamedTuple):
    """Known entries of a score matrix by descending score, (M,) each.

    places: where they stand in the matrix, row * num_labels + label; positive: whether their target is 1. totals: of
    all known entries, where those that no cut-off predicts are not in the ranking.
    """

    scores: Scores
    places: NDArray[np.integer[Any]]
    positive: Bools
    num_labels: int
    totals: Totals | None = None

    @property
    def rows(self) -> NDArray[np.integer[Any]]:
        return self.places // np.uint32(self.num_labels)

    @property
    def labels(self) -> NDArray[np.integer[Any]]:
        return self.places - self.rows * np.uint32(self.num_labels)

    def take(self, entries: Any) -> "Ranking":
        """Take some of the entries: a mask, a slice or indices."""
        return Ranking(self.scores[entries], self.places[entries], self.positive[entries], self.num_labels)


def rank_entries(scores: Scores, targets: Bools, known: Bools) -> Ranking:
    """Rank the known entries of scores, (N, K). Raises ValueError for `RANKED` entries and more."""
    check_ranked(scores.size)
    values, numbers = scores.ravel(), np.arange(scores.size)
    if not known.all():
        numbers = numbers[known.ravel()]
        values = values[numbers]
    ranked, places = descending(values, numbers)
    return Ranking(ranked, places, targets.ravel()[places], scores.shape[1])


def check_ranked(entries: int) -> None:
    """Raise ValueError for more entries than `descending` can number."""
    if entries >= RANKED:
        raise ValueError(f"scores: {entries} entries; an exact search ranks less than {RANKED}")


def descending(scores: Scores, numbers: Integers) -> tuple[Scores, NDArray[np.uint32]]:
    """Return scores (M,) from the highest, -0.0 as 0.0, and their numbers, below 2^32, ascending where scores are
    equal: by one sort of integers that hold both, which is faster than a sort of indices."""
    bits = ~_ordered((scores + np.float32(0)).view(np.int32))
    keys = bits.astype(np.int64) << 32
    keys |= numbers
    keys.sort()
    lower = keys.astype(np.uint32)
    keys >>= 32
    return _ordered(~keys.astype(np.int32)).view(np.float32), lower


def _ordered(bits: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the bits of floats as integers of the same order, and back."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def exact_threshold(ranking: Ranking, criterion: Metric) -> float:
    """Return the best of all distinct cut-offs of the known scores, the larger on a tie, in O(NK log NK).

    ranking: of all known entries, one finite at least. Cut-offs lie midway between neighbouring distinct scores; two
    more predict nothing and everything. Entries of score inf are predicted by every cut-off, those of -inf by none.
    """
    ends = group_ends(ranking.scores)
    distinct = ranking.scores[ends]
    nothing, values = _curve(ranking, criterion.formula)
    values = np.append(nothing, values[ends])  # candidate j predicts the scores of the first j distinct ones
    first, last = int(distinct[0] == np.inf), len(distinct) - int(distinct[-1] == -np.inf)
    return float(cutoffs(distinct[first:last])[first_best(criterion.gain(values[first : last + 1]))])


def by_label(ranking: Ranking) -> tuple[Integers, Integers]:
    """Return the order that groups a ranking by label, (M,), and where each label's entries end in it, (K,)."""
    labels = ranking.labels
    small = labels.astype(np.uint16) if ranking.num_labels <= 2**16 else labels  # sorted by radix
    return np.argsort(small, kind="stable"), np.bincount(labels, minlength=ranking.num_labels).cumsum()


def cutoffs(distinct: Scores) -> Scores:
    """Return thresholds around distinct descending scores, (M + 1,): the highest, midways, below all."""
    between = ((distinct[1:].astype(np.float64) + distinct[:-1]) / 2).astype(np.float32)
    between = np.where(between < distinct[:-1], between, distinct[1:])  # no float32 in between
    return np.concatenate([distinct[:1], between, np.nextafter(distinct[-1:], np.float32(-np.inf))])


def _curve(ranking: Ranking, formula: Formula) -> tuple[Any, Floats]:
    """Return a metric's value when nothing is predicted, and after each entry of a ranking has been, (M,).

    One entry changes the counts of one label and of one image alone, so a mean over either is the running sum of its
    changes.
    """
    if isinstance(formula, HarmonicMean):
        parts = [_curve(ranking, part) for part in formula]
        nothing, values = (harmonic_mean(*pair) for pair in zip(*parts, strict=True))
        return nothing, values
    totals = ranking.totals
    if formula.over == "entries":
        correct = ranking.positive.cumsum()
        of_all = (correct[-1], len(correct)) if totals is None else tuple(totals.labels.sum(1))
        values = ratio(*formula.of(correct, np.arange(1, len(correct) + 1), *of_all))
        return ratio(*formula.of(0, 0, *of_all)), values
    if formula.over == "labels":
        order, groups = by_label(ranking)[0], ranking.labels
        given, number = None if totals is None else totals.labels, ranking.num_labels
    else:
        order, groups = _by_image(ranking)
        given = None if totals is None else totals.images
        number = int(np.count_nonzero(np.bincount(groups) if given is None else given[1]))
    if given is None:
        actual = np.bincount(groups[ranking.positive], minlength=number)
        known = np.bincount(groups, minlength=number)
        actual = np.pad(actual, (0, len(known) - len(actual)))
    else:
        actual, known = given
    start, changes = group_changes(formula.of, groups[order], ranking.positive[order], actual, known)
    ranked = np.empty_like(changes)
    ranked[order] = changes
    return start.sum() / number, (start.sum() + ranked.cumsum()) / number


def _by_image(ranking: Ranking) -> tuple[Integers, NDArray[np.integer[Any]]]:
    """Return the order that groups a ranking by image, (M,), and each entry's image, (M,)."""
    images = ranking.rows
    keys = (images.astype(np.int64) << 32) | np.arange(len(images))
    keys.sort()  # faster than a sort of indices
    return keys & 0xFFFFFFFF, images
