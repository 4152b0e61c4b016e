"""The functional core of the metrics: from predictions and scores to numbers.

It imports NumPy alone, so that reports can use it without torch. Arrays may be NumPy arrays or torch tensors;
the results are float64. Nothing depends on the order or the batching of the images, to the last bit: the
label-set metrics come from integer counts, the means over images from exactly rounded sums, and tied scores
are always taken together.
"""

import math
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

LABEL_SET_KEYS = ("pc_p", "pc_r", "ov_p", "ov_r", "f1", "exact_match", "cf1", "of1")
RANKING_KEYS = ("map", "map_classes", "ranking_loss", "coverage", "one_error", "lrap")

Floats = NDArray[np.float64]
PerClass = Literal["precision", "recall", "f1"]
_CHUNK = 8192  # images sorted at a time: bounds the memory of the ranking metrics


class LabelCounts(NamedTuple):
    """Sufficient statistics of the label-set metrics; leading axes (...) are replicates, such as thresholds.

    correct, predicted, actual: N^c, N^p, N^g of eqn 27, the images in which a label is predicted rightly,
    predicted, and true, (..., K). exact: images whose label set is right on every known entry, (...). images:
    images with at least one known entry, (...).
    """

    correct: Any
    predicted: Any
    actual: Any
    exact: Any
    images: Any


def count_label_sets(predictions: Any, targets: Any, mask: Any = None) -> LabelCounts:
    """Count label sets, 0/1 arrays or tensors (..., N, K), over the images.

    mask: True where the target is known. An unknown entry is neither predicted nor true, and an image without
    any known entry is left out.
    """
    predictions, targets = predictions != 0, targets != 0
    if mask is None:
        right, images = ~(predictions ^ targets).any(-1), targets.shape[-2]
    else:
        mask = mask != 0
        predictions, targets = predictions & mask, targets & mask
        right, images = ~(predictions ^ targets).any(-1) & mask.any(-1), mask.any(-1).sum(-1)
    return LabelCounts(
        correct=(predictions & targets).sum(-2),
        predicted=predictions.sum(-2),
        actual=targets.sum(-2),
        exact=right.sum(-1),
        images=images,
    )


class ComparedLabels(NamedTuple):
    """Label sets beside the truth, bool (..., K): true positives, false positives and false negatives."""

    found: Any
    wrong: Any
    missed: Any


def compare_label_sets(predictions: Any, targets: Any, mask: Any = None) -> ComparedLabels:
    """Which labels `predictions` finds, predicts wrongly and misses; all 0/1 or bool (..., K).

    mask: True where the target is known; an unknown entry is none of the three.
    """
    predicted, true = predictions != 0, targets != 0
    known = True if mask is None else mask != 0
    return ComparedLabels(predicted & true & known, predicted & ~true & known, ~predicted & true & known)


def ratio(numerator: Any, denominator: Any) -> Floats:
    """`numerator / denominator` in float64, 0 where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    result = np.zeros(numerator.shape)
    np.divide(numerator, denominator, out=result, where=denominator != 0, dtype=np.float64)
    return result


def harmonic_mean(precision: Floats, recall: Floats) -> Floats:
    """2 p r / (p + r), 0 where both are 0."""
    return ratio(2 * precision * recall, precision + recall)


def per_class_metric(name: PerClass, correct: Any, predicted: Any, actual: Any) -> Floats:
    """Precision N^c / N^p, recall N^c / N^g or F1 = 2 N^c / (N^p + N^g), in the shape of the counts."""
    if name == "precision":
        return ratio(correct, predicted)
    if name == "recall":
        return ratio(correct, actual)
    return ratio(2 * correct, predicted + actual)


def per_class_metrics(correct: Any, predicted: Any, actual: Any) -> dict[PerClass, Floats]:
    """Precision, recall and F1 of every label, see `per_class_metric`."""
    return {name: per_class_metric(name, correct, predicted, actual) for name in get_args(PerClass)}


def label_set_metrics(counts: LabelCounts) -> dict[str, Floats]:
    """The paper's six metrics (eqns 27, 28) and two harmonic means, as fractions in [0, 1], from counts.

    pc_p, pc_r: per-class precision and recall, means over all K labels. ov_p, ov_r: the same over all labels
    pooled. f1: macro F1, the mean of the per-class F1. exact_match: images whose whole label set is right.
    cf1, of1: harmonic means of pc_p and pc_r, of ov_p and ov_r. A ratio with a zero denominator counts 0 and
    stays in the mean.
    """
    correct, predicted, actual, exact, images = (as_numpy(count) for count in counts)
    per_class = {
        key: values.mean(-1) for key, values in per_class_metrics(correct, predicted, actual).items()
    }
    ov_p = ratio(correct.sum(-1), predicted.sum(-1))
    ov_r = ratio(correct.sum(-1), actual.sum(-1))
    return {
        "pc_p": per_class["precision"],
        "pc_r": per_class["recall"],
        "ov_p": ov_p,
        "ov_r": ov_r,
        "f1": per_class["f1"],
        "exact_match": ratio(exact, images),
        "cf1": harmonic_mean(per_class["precision"], per_class["recall"]),
        "of1": harmonic_mean(ov_p, ov_r),
    }


def ranking_metrics(scores: Any, targets: Any, mask: Any = None) -> dict[str, float]:
    """Ranking metrics on raw scores, (N, K), as scikit-learn defines them; ties count against the prediction.

    map: mean over the labels of the average precision, AP = sum_n (R_n - R_{n-1}) P_n over the distinct
    scores; labels without a known positive are skipped, and map_classes says how many remain. ranking_loss:
    share of pairs (positive u, negative v) of an image with f_v >= f_u. coverage: how far down the ranking
    one has to go to find every positive, counted from 1. one_error: images whose highest score belongs to a
    negative. lrap: label ranking average precision. An image without a positive counts 0 in ranking_loss,
    coverage and one_error and 1 in lrap; without a negative, 0 in ranking_loss and 1 in lrap. Unknown entries
    leave the ranking; an image without any known entry is left out.

    Raises ValueError for NaN scores and when no entry is known.
    """
    scores, targets, known = check_ranking_input(scores, targets, mask)
    counted = known.any(1)
    rows: dict[str, list[Floats]] = {"ranking_loss": [], "coverage": [], "one_error": [], "lrap": []}
    for start in range(0, len(scores), _CHUNK):
        part = np.flatnonzero(counted[start : start + _CHUNK]) + start
        for key, values in image_ranking(scores[part], targets[part], known[part]).items():
            rows[key].append(values)
    precisions = average_precisions(scores, targets, known)
    defined = precisions[~np.isnan(precisions)]
    means = {key: math.fsum(np.concatenate(values)) / int(counted.sum()) for key, values in rows.items()}
    return {
        "map": float(defined.mean()) if len(defined) else 0.0,
        "map_classes": float(len(defined)),
        **means,
    }


def check_ranking_input(scores: Any, targets: Any, mask: Any) -> tuple[Any, Any, Any]:
    """Scores, targets and mask as NumPy arrays (N, K), a mask of None filled in; see `ranking_metrics`."""
    scores, targets = as_numpy(scores), as_numpy(targets) != 0
    known = np.ones(targets.shape, bool) if mask is None else as_numpy(mask) != 0
    if np.isnan(scores).any():
        row = int(np.isnan(scores).any(1).argmax())
        raise ValueError(f"scores: NaN in row {row}; ranking metrics need a number for every entry")
    if not known.any():
        raise ValueError("ranking metrics need at least one image with a known label, got none")
    return scores, targets, known


def average_precisions(scores: Any, targets: Any, mask: Any = None) -> Floats:
    """Average precision of every label, (K,), ties taken together; NaN without a known positive."""
    scores, targets = as_numpy(scores), as_numpy(targets) != 0
    known = None if mask is None else as_numpy(mask) != 0
    result = np.full(scores.shape[1], np.nan)
    for label in range(scores.shape[1]):
        rows = slice(None) if known is None else known[:, label]
        column, positive = scores[rows, label], targets[rows, label]
        if positive.any():
            order = np.argsort(column)[::-1]
            ends = group_ends(column[order][None])[0]
            true_positives = np.cumsum(positive[order])[ends]
            precision = true_positives / (np.flatnonzero(ends) + 1.0)
            result[label] = (np.diff(true_positives, prepend=0) * precision).sum() / true_positives[-1]
    return result


def image_ranking(scores: NDArray[Any], targets: NDArray[Any], known: NDArray[Any]) -> dict[str, Floats]:
    """Per-image ranking metrics, (N,) each: a sort, then cumulative counts read off at the ends of ties."""
    positives = targets & known
    scores = np.where(known, scores, -np.inf)  # unknown entries go last and count nothing
    order = np.argsort(-scores, axis=1)
    ranked = np.take_along_axis(scores, order, 1)
    positive = np.take_along_axis(positives, order, 1)
    position = np.where(group_ends(ranked), np.arange(scores.shape[1]), scores.shape[1] - 1)
    end = np.minimum.accumulate(position[:, ::-1], axis=1)[:, ::-1]  # last place of each entry's tie
    ranked_known = np.take_along_axis(known, order, 1)
    above = np.take_along_axis(ranked_known.cumsum(1), end, 1)  # known entries with at least this score
    positive_above = np.take_along_axis(positive.cumsum(1), end, 1)
    n_positive, n_known = positives.sum(1), known.sum(1)
    inverted = ((above - positive_above) * positive).sum(1)
    precision = np.where(positive, ratio(positive_above, above), 0.0).sum(1)
    trivial = (n_positive == 0) | (n_positive == n_known)
    return {
        "ranking_loss": ratio(inverted, n_positive * (n_known - n_positive)),
        "coverage": (above * positive).max(1).astype(np.float64),
        "one_error": ((positive_above[:, 0] < above[:, 0]) & (n_positive > 0)).astype(np.float64),
        "lrap": np.where(trivial, 1.0, ratio(precision, n_positive)),
    }


def group_ends(ranked: NDArray[Any]) -> NDArray[np.bool_]:
    """True at the last entry of every run of equal values along the last axis."""
    ends = np.ones(ranked.shape, bool)
    ends[:, :-1] = ranked[:, 1:] != ranked[:, :-1]
    return ends


def as_numpy(values: Any) -> Any:
    """A NumPy view of an array, or of a torch tensor on any device (bfloat16 as float32: NumPy lacks it)."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values
    return np.asarray(values)
