"""What each cut-off of one label gives, and coordinate ascent over the labels."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lsep_ml.decisions.search import (
    TIE,
    Bools,
    Integers,
    Ranking,
    Scores,
    by_label,
    cutoffs,
    first_best,
    group_ends,
)
from lsep_ml.metrics.functional import LabelCounts, count_label_sets, label_set_metrics

_SWEEPS = 20


class LabelCurve(NamedTuple):
    """What a label's cut-offs give, from the largest: nothing predicted, then those just below a positive.

    Cut-offs that end on negatives are never better by any criterion. cutoffs (J,), correct (J,), predicted
    (J,); actual: the number of positives; order: the rows by descending score; ends (J - 1,): last place of
    each cut-off in that order.
    """

    cutoffs: Scores
    correct: Integers
    predicted: Integers
    actual: int
    order: NDArray[np.uint32]
    ends: Integers


def label_curve(ranking: Ranking) -> LabelCurve:
    """The curve of the entries of one label, or of several pooled; there is at least one entry."""
    ends = np.flatnonzero(group_ends(ranking.scores))
    found = ranking.positive.cumsum()
    useful = np.diff(found[ends], prepend=0) > 0
    thresholds = cutoffs(ranking.scores[ends])[np.append(True, useful)]
    ends = ends[useful]
    return LabelCurve(
        thresholds, np.append(0, found[ends]), np.append(0, ends + 1), int(found[-1]), ranking.rows, ends
    )


def label_curves(ranking: Ranking) -> list[LabelCurve | None]:
    """The curve of every label; None where no entry of a label is known."""
    order, stops = by_label(ranking)
    grouped = ranking.take(order)
    starts = np.append(0, stops[:-1])
    return [
        label_curve(grouped.take(slice(start, stop))) if start < stop else None
        for start, stop in zip(starts, stops, strict=True)
    ]


def ascend(
    theta: Scores,
    curves: Sequence[LabelCurve | None],
    scores: Scores,
    targets: Bools,
    known: Bools,
    criterion: str,
) -> None:
    """Move one label's threshold at a time, in place, to its best cut-off given the others, until none helps.

    theta: (K,), where to start; a label without a curve stays there.
    """
    wrong = ((scores > theta) ^ targets) & known
    mistakes, images = wrong.sum(1), known.any(1)
    counts = count_label_sets(scores > theta, targets, known)
    value = float(label_set_metrics(counts)[criterion])
    for _ in range(_SWEEPS):
        before = value
        for label, curve in enumerate(curves):
            if curve is None:
                continue
            others_right = (mistakes == wrong[:, label]) & images
            moved = _moves(counts, label, curve, targets[:, label], others_right)
            values = label_set_metrics(moved)[criterion]
            best = first_best(values)
            if values[best] <= value + TIE:
                continue
            theta[label], value = curve.cutoffs[best], float(values[best])
            counts = moved._replace(
                correct=moved.correct[best], predicted=moved.predicted[best], exact=moved.exact[best]
            )
            mistakes -= wrong[:, label]
            wrong[:, label] = ((scores[:, label] > theta[label]) ^ targets[:, label]) & known[:, label]
            mistakes += wrong[:, label]
        if value <= before + TIE:
            return


def _moves(
    counts: LabelCounts, label: int, curve: LabelCurve, positive: Bools, others_right: Bools
) -> LabelCounts:
    """The counts for each cut-off of one label, the other labels as they are, (J, K) and (J,)."""
    size = len(curve.cutoffs)
    correct, predicted = (np.repeat(count[None], size, 0) for count in (counts.correct, counts.predicted))
    correct[:, label], predicted[:, label] = curve.correct, curve.predicted
    gain = np.where(positive, 1, -1) * others_right  # of predicting the label rather than not
    known = np.zeros(len(positive), bool)
    known[curve.order] = True
    none = (others_right & ~(positive & known)).sum()  # images right when the label is predicted nowhere
    exact = none + np.append(0, gain[curve.order].cumsum()[curve.ends])
    return LabelCounts(correct, predicted, counts.actual, exact, counts.images)
