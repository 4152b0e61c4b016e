"""What each cut-off of one label gives, and coordinate ascent over the labels."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsep_ml.decisions.search import (
    TIE,
    Bools,
    Integers,
    Ranking,
    Scores,
    by_label,
    criterion_gain,
    cutoffs,
    first_best,
)
from lsep_ml.metrics import Metric
from lsep_ml.metrics.counts import LabelCounts, count_label_sets, image_counts, image_shares
from lsep_ml.metrics.functional import group_ends
from lsep_ml.metrics.metric import ratio

_SWEEPS = 20


class LabelCurve(NamedTuple):
    """Says what a label's cut-offs give, from the largest: nothing predicted, then those just below a positive.

    Cut-offs that end on negatives are never better by any criterion but break-even. cutoffs (J,), correct (J,),
    predicted (J,); actual: the number of positives; order: the rows by descending score; ends (J - 1,): last place
    of each cut-off in that order.
    """

    cutoffs: Scores
    correct: Integers
    predicted: Integers
    actual: int
    order: NDArray[np.integer[Any]]
    ends: Integers


def label_curve(ranking: Ranking, *, every: bool = False) -> LabelCurve:
    """Return the curve of the entries of one label, or of several pooled; there is at least one entry.

    every: whether cut-offs that end on negatives are in it.
    """
    ends = np.flatnonzero(group_ends(ranking.scores))
    found = ranking.positive.cumsum()
    useful = (np.diff(found[ends], prepend=0) > 0) | every
    thresholds = cutoffs(ranking.scores[ends])[np.append(True, useful)]
    ends = ends[useful]
    return LabelCurve(
        thresholds, np.append(0, found[ends]), np.append(0, ends + 1), int(found[-1]), ranking.rows, ends
    )


def label_curves(ranking: Ranking, *, every: bool = False) -> list[LabelCurve | None]:
    """Return the curve of every label, see `label_curve`; None where no entry of a label is known."""
    order, stops = by_label(ranking)
    grouped = ranking.take(order)
    starts = np.append(0, stops[:-1])
    return [
        label_curve(grouped.take(slice(start, stop)), every=every) if start < stop else None
        for start, stop in zip(starts, stops, strict=True)
    ]


def ascend(
    theta: Scores,
    curves: Sequence[LabelCurve | None],
    scores: Scores,
    targets: Bools,
    known: Bools,
    criterion: Metric,
) -> None:
    """Move one label's threshold at a time, in place, to its best cut-off given the others, until none helps.

    theta: (K,), where to start; a label without a curve stays there.
    """
    sets, targets = (scores > theta) & known, targets & known
    counts = count_label_sets(sets, targets, known)
    right, chosen, actual, of_known = image_counts(sets, targets, known)
    value = float(criterion_gain(criterion, counts))
    for _ in range(_SWEEPS):
        before = value
        for label, curve in enumerate(curves):
            if curve is None:
                continue
            own = sets[:, label]
            others = right - (own & targets[:, label]), chosen - own, actual, of_known
            moved = _moves(counts, label, curve, targets[:, label], others, criterion)
            gains = criterion_gain(criterion, moved)
            best = first_best(gains)
            if gains[best] <= value + TIE:
                continue
            theta[label], value = curve.cutoffs[best], float(gains[best])
            sets[:, label] = (scores[:, label] > theta[label]) & known[:, label]
            right, chosen = others[0] + (sets[:, label] & targets[:, label]), others[1] + sets[:, label]
            counts = moved._replace(
                correct=moved.correct[best],
                predicted=moved.predicted[best],
                image_sums={share: sums[best] for share, sums in moved.image_sums.items()},
            )
        if value <= before + TIE:
            return


def _moves(
    counts: LabelCounts,
    label: int,
    curve: LabelCurve,
    positive: Bools,
    others: tuple[Integers, Integers, Integers, Integers],
    criterion: Metric,
) -> LabelCounts:
    """Return the counts for each cut-off of one label, the other labels as they are, (J, K) and (J,).

    positive: (N,), the label's targets. others: `image_counts` when the label is predicted nowhere.
    """
    size = len(curve.cutoffs)
    correct, predicted = (np.repeat(count[None], size, 0) for count in (counts.correct, counts.predicted))
    correct[:, label], predicted[:, label] = curve.correct, curve.predicted
    right, chosen, *totals = others
    sums = {}
    for share in image_shares(criterion.formula):
        without = ratio(*share(right, chosen, *totals))  # of each image, the label not predicted
        change = ratio(*share(right + positive, chosen + 1, *totals)) - without
        sums[share] = without.sum() + np.append(0.0, change[curve.order].cumsum()[curve.ends])
    return LabelCounts(correct, predicted, counts.actual, counts.known, counts.images, sums)
