"""The functional core of the metrics: from predictions and scores to numbers, by the formulas of the catalogue.

It needs NumPy alone, so that reports can use it without torch. Arrays may be NumPy arrays or torch tensors; the
results are float64. Nothing depends on the order or the batching of the images, to the last bit: the label-set
metrics come from integer counts, the means over images from exactly rounded sums, and tied scores are always taken
together.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import repeat
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lsep_ml.metrics.catalogue import (
    LABEL_SET_METRICS,
    MAP_CLASSES,
    RANKING_METRICS,
    average_precision,
    f1,
    precision,
    recall,
)
from lsep_ml.metrics.counts import (
    LabelCounts,
    as_held,
    as_numpy,
    check_sizes,
    held_known,
    row_slices,
    true_entries,
)
from lsep_ml.metrics.counts import compare_label_sets as compare_label_sets
from lsep_ml.metrics.counts import count_label_sets as count_label_sets
from lsep_ml.metrics.counts import known_entries as known_entries
from lsep_ml.metrics.indicator import SparseIndicator
from lsep_ml.metrics.metric import (
    Average,
    Cutoffs,
    Floats,
    Formula,
    HarmonicMean,
    ImageRanks,
    Share,
    harmonic_mean,
    ratio,
)

LABEL_SET_KEYS = tuple(metric.key for metric in LABEL_SET_METRICS)
RANKING_KEYS = (*(metric.key for metric in RANKING_METRICS), MAP_CLASSES.key)
# Images and entries that are sorted at a time, whichever are fewer, and entries up to which one ranking of all of them
# is: they bound the memory.
_IMAGES, _ENTRIES, _POOLED = 8192, 2**20, 2**24

PerClass = Literal["precision", "recall", "f1"]
_PER_CLASS: Mapping[PerClass, Share] = {"precision": precision, "recall": recall, "f1": f1}


def label_set_value(formula: Formula, counts: LabelCounts) -> Floats:
    """Return a label-set metric's value from counts, (...); a ratio with a zero denominator counts 0 and stays in the
    mean."""
    if isinstance(formula, HarmonicMean):
        return harmonic_mean(*(label_set_value(part, counts) for part in formula))
    if formula.over == "images":
        return ratio(counts.image_sums[formula.of], as_numpy(counts.images))
    numbers = [as_numpy(count) for count in counts[:4]]
    if formula.over == "labels":
        return np.asarray(ratio(*formula.of(*numbers)).mean(-1))
    return ratio(*formula.of(*(number.sum(-1) for number in numbers)))


def label_set_metrics(counts: LabelCounts) -> dict[str, Floats]:
    """Return every label-set metric of the catalogue from counts, as fractions; see `label_set_value`."""
    return {metric.key: label_set_value(metric.formula, counts) for metric in LABEL_SET_METRICS}


def labels_per_image(counts: LabelCounts) -> Floats:
    """Return the mean number of labels predicted, over the images with a known entry."""
    return ratio(as_numpy(counts.predicted).sum(-1), as_numpy(counts.images))


def per_class_metric(name: PerClass, correct: Any, predicted: Any, actual: Any) -> Floats:
    """Compute precision N^c / N^p, recall N^c / N^g or F1 = 2 N^c / (N^p + N^g), in the shape of the counts."""
    return ratio(*_PER_CLASS[name](correct, predicted, actual, None))


def per_class_metrics(correct: Any, predicted: Any, actual: Any) -> dict[PerClass, Floats]:
    """Compute precision, recall and F1 of every label, see `per_class_metric`."""
    return {name: per_class_metric(name, correct, predicted, actual) for name in get_args(PerClass)}


def ranking_metrics(scores: Any, targets: Any, mask: Any = None) -> dict[str, float]:
    """Return every ranking metric of the catalogue on raw scores, (N, K), and map_classes; ties count against the
    prediction.

    They are scikit-learn's. Unknown entries leave the ranking, and an image without any known entry is left out. A mean
    over labels skips those for which the formula is not defined (map_classes says how many remain in map); it is 0
    where none is left.

    Raises ValueError for NaN scores, for known targets other than 0 and 1, for matrices of different sizes, and when no
    entry is known.
    """
    scores, targets, known = check_ranking_input(scores, targets, mask)
    values: dict[str, float] = {}
    of_labels = ranking_formulas("labels")
    by_label = dict(zip(of_labels, label_values(scores, targets, known, *of_labels.values()), strict=True))
    values |= {key: mean_of_defined(of_label) for key, of_label in by_label.items()}
    counted = known.any(1)
    for key, of_image in image_ranking(scores, targets, known).items():
        values[key] = math.fsum(of_image[counted]) / int(counted.sum())
    if of_entries := ranking_formulas("entries"):
        cutoffs = _pooled_cutoffs(scores, targets, known)
        values |= {key: float(np.nan_to_num(formula(cutoffs))) for key, formula in of_entries.items()}
    values[MAP_CLASSES.key] = float((~np.isnan(by_label["map"])).sum())
    return {key: values[key] for key in RANKING_KEYS}


def ranking_formulas(over: str) -> dict[str, Callable[..., Floats]]:
    """Return the formulas of the ranking metrics that are averaged over "labels", "images" or "entries", by key."""
    rows = [(metric.key, metric.formula) for metric in RANKING_METRICS]
    return {key: part.of for key, part in rows if isinstance(part, Average) and part.over == over}


def mean_of_defined(values: Floats) -> float:
    """Return the mean of the values that are not NaN; 0 where all are."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else 0.0


def check_ranking_input(scores: Any, targets: Any, mask: Any) -> tuple[Any, Any, Any]:
    """Return scores, targets and mask as arrays (N, K), sparse where they were, a mask of None filled in; see
    `ranking_metrics`."""
    check_sizes(scores=scores, targets=targets, mask=mask)
    scores, known = as_numpy(scores), None if mask is None else as_held(mask) != 0
    targets = true_entries("targets", targets, known)
    known = held_known(targets, mask) if known is None else known
    _check_numbers(scores)
    if not known.any():
        raise ValueError("ranking metrics need at least one image with a known label, got none")
    return scores, targets, known


def _check_numbers(scores: NDArray[Any]) -> None:
    for rows in row_slices(*scores.shape):
        missing = np.isnan(scores[rows])
        if missing.any():
            row, column = np.argwhere(missing)[0]
            raise ValueError(
                f"scores: NaN in row {rows.start + row}, column {column}; ranking metrics need a number for every "
                "entry"
            )


def average_precisions(scores: Any, targets: Any, mask: Any = None) -> Floats:
    """Compute the average precision of every label, (K,), ties taken together; NaN without a known positive.

    Raises ValueError for NaN scores, for known targets other than 0 and 1, and for matrices of different sizes.
    """
    check_sizes(scores=scores, targets=targets, mask=mask)
    scores, known = as_numpy(scores), None if mask is None else as_held(mask) != 0
    _check_numbers(scores)
    return label_values(scores, true_entries("targets", targets, known), known, average_precision)[0]


def label_values(
    scores: NDArray[Any], targets: Any, known: Any, *formulas: Callable[[Cutoffs], Floats]
) -> NDArray[np.float64]:
    """Return what the formulas give for every label, (F, K), from one sort a label; NaN where one is not defined.

    targets: bool (N, K), dense or sparse, as `true_entries` gives them; known: so too, None for all.
    """
    values = np.full((len(formulas), scores.shape[1]), np.nan)
    for label, column, positive, rows in _by_label(scores, targets, known):
        if positive.any():
            cutoffs = label_cutoffs(column[rows], positive[rows])
            values[:, label] = [formula(cutoffs) for formula in formulas]
    return values


def _by_label(scores: NDArray[Any], targets: Any, known: Any) -> Iterator[tuple[int, Any, Any, Any]]:
    """Yield each label, its scores and targets, (N,) each, and its known rows; some labels at a time are copied, so
    that each is read in one piece."""
    for labels in row_slices(scores.shape[1], len(scores)):
        columns, positives = (np.ascontiguousarray(of[:, labels].T) for of in (scores, targets))
        rows = repeat(slice(None)) if known is None else np.ascontiguousarray(known[:, labels].T)
        yield from zip(range(labels.start, labels.stop), columns, positives, rows, strict=known is not None)


def label_cutoffs(scores: NDArray[Any], positive: NDArray[Any]) -> Cutoffs:
    """Return the cut-offs of one ranking, of scores and bool targets (M,), M > 0; every tie is there."""
    order = np.argsort(scores)[::-1]
    ends = np.flatnonzero(group_ends(scores[order]))
    true_positives, above = np.cumsum(positive[order])[ends], ends + 1
    found = np.diff(true_positives, prepend=0)
    tied = np.diff(above, prepend=0) - found
    return Cutoffs(found, true_positives, above, tied, len(scores) - true_positives[-1])


def _pooled_cutoffs(scores: NDArray[Any], targets: Any, known: Any) -> Cutoffs:
    """Return the cut-offs of the known entries in one ranking: of many entries, which are not sorted then but counted
    by blocks of rows, the ties with a positive alone."""
    if scores.size < _POOLED or not targets.any():
        entries = np.asarray(known)
        return label_cutoffs(scores[entries], np.asarray(targets)[entries])
    positive = targets.nonzero() if isinstance(targets, SparseIndicator) else targets
    values, found = np.unique(scores[positive], return_counts=True)
    reached, tied = np.zeros(len(values) + 1, np.int64), np.zeros(len(values), np.int64)
    size = max(1, _ENTRIES // scores.shape[1])
    for start in range(0, len(scores), size):
        block = scores[start : start + size][np.asarray(known[start : start + size])]
        places = np.searchsorted(values, block, side="right")  # of the lowest positive above each entry
        reached += np.bincount(places, minlength=len(reached))
        equal = places[(places > 0) & (values[places - 1] == block)] - 1
        tied += np.bincount(equal, minlength=len(tied))
    above, found, tied = reached[:0:-1].cumsum(), found[::-1], tied[::-1]
    return Cutoffs(found, found.cumsum(), above, tied - found, reached.sum() - found.sum())


def image_ranking(scores: NDArray[Any], targets: Any, known: Any) -> dict[str, Floats]:
    """Compute the ranking metrics of each image, (N,) each; those of one without a known entry mean nothing."""
    size = max(1, min(_IMAGES, _ENTRIES // scores.shape[1]))
    blocks = [slice(start, start + size) for start in range(0, len(scores), size)]
    parts = [
        _image_ranking(scores[rows], np.asarray(targets[rows]), np.asarray(known[rows])) for rows in blocks
    ]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _image_ranking(scores: NDArray[Any], targets: NDArray[Any], known: NDArray[Any]) -> dict[str, Floats]:
    """Sort, then read cumulative counts off at the ends of ties."""
    positives = targets & known
    scores = np.where(known, scores, -np.inf)  # unknown entries go last and count nothing
    order = np.argsort(-scores, axis=1)
    ranked = np.take_along_axis(scores, order, 1)
    positive = np.take_along_axis(positives, order, 1)
    position = np.where(group_ends(ranked), np.arange(scores.shape[1]), scores.shape[1] - 1)
    end = np.minimum.accumulate(position[:, ::-1], axis=1)[:, ::-1]  # last place of each entry's tie
    ranked_known = np.take_along_axis(known, order, 1)
    ranks = ImageRanks(
        positive,
        above=np.take_along_axis(ranked_known.cumsum(1), end, 1),
        positive_above=np.take_along_axis(positive.cumsum(1), end, 1),
        positives=positives.sum(1),
        known=known.sum(1),
    )
    return {key: formula(ranks) for key, formula in ranking_formulas("images").items()}


def group_ends(ranked: NDArray[Any]) -> NDArray[np.bool_]:
    """Mark the last entry of every run of equal values along the last axis."""
    ends = np.ones(ranked.shape, bool)
    ends[..., :-1] = ranked[..., 1:] != ranked[..., :-1]
    return ends


RECALLS = np.linspace(0, 1, 101)
"""Where precision-recall curves are read off."""


def mean_precision_recall(scores: np.ndarray, targets: Any, mask: Any) -> np.ndarray:
    """Compute precision (101,) at recall 0, 0.01, ..., 1, averaged over the classes that have a positive.

    A class's precision at recall r is the highest at any recall >= r (interpolated precision). Scores float (N, K),
    targets and mask 0/1 (N, K), dense or sparse; only known entries count.

    Raises ValueError for NaN scores, for known targets other than 0 and 1, and for matrices of different sizes.
    """
    check_sizes(scores=scores, targets=targets, mask=mask)
    _check_numbers(scores)
    known = mask != 0
    targets = true_entries("targets", targets, known)
    curves = []
    for _, column, positive, rows in _by_label(scores, targets, known):
        if positive.any():
            ranked, found = np.sort(column[rows]), np.sort(column[positive])
            # At a cut-off on each positive, from the highest: positives and all entries from there up, ties included.
            cuts = found[::-1]
            positives = len(found) - np.searchsorted(found, cuts)
            precision = positives / (len(ranked) - np.searchsorted(ranked, cuts))
            highest = np.maximum.accumulate(precision[::-1])[::-1]
            curves.append(highest[np.searchsorted(positives, RECALLS * len(found) - 1e-9)])
    return np.mean(curves, axis=0) if curves else np.full(len(RECALLS), np.nan)
