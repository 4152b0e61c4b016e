"""The catalogue of the metrics: a row each, its formula beside it. Whatever names or computes one reads it.

A formula is a mean over the labels (macro), over the images (samples), or of all entries pooled (micro): of a ratio of
counts for label sets, of a ranking for scores. `lsep_ml.metrics.functional` evaluates it, `lsep_ml.decisions.search`
searches it and `lsep_ml.metrics.bootstrap` resamples it, for every row alike: a new metric is its formula and its row.
"""

from typing import Any

import numpy as np

from lsep_ml.metrics.metric import Average, Cutoffs, Floats, HarmonicMean, ImageRanks, Metric, Quantity, ratio


def precision(correct: Any, predicted: Any, actual: Any, known: Any) -> tuple[Any, Any]:
    """Return N^c / N^p of eqns 27 and 28."""
    return correct, predicted


def recall(correct: Any, predicted: Any, actual: Any, known: Any) -> tuple[Any, Any]:
    """Return N^c / N^g of eqns 27 and 28."""
    return correct, actual


def f1(correct: Any, predicted: Any, actual: Any, known: Any) -> tuple[Any, Any]:
    """Compute 2 N^c / (N^p + N^g)."""
    return 2 * correct, predicted + actual


def exact(correct: Any, predicted: Any, actual: Any, known: Any) -> tuple[Any, Any]:
    """Return 1 where every known entry is predicted rightly."""
    return (correct == predicted) & (correct == actual), known > 0


def wrong(correct: Any, predicted: Any, actual: Any, known: Any) -> tuple[Any, Any]:
    """Count known entries predicted wrongly, N^p + N^g - 2 N^c, of all known ones."""
    return predicted + actual - 2 * correct, known


def jaccard(correct: Any, predicted: Any, actual: Any, known: Any) -> tuple[Any, Any]:
    """Return intersection over union of the predicted and the true labels."""
    return correct, predicted + actual - correct


def average_precision(cutoffs: Cutoffs) -> Floats:
    """Compute AP = sum_n (R_n - R_{n-1}) P_n over the distinct scores; NaN without a positive."""
    _, true_positives, above, _, _ = cutoffs
    total = true_positives[-1]
    value = ratio((cutoffs.found * ratio(true_positives, above)).sum(0), total)
    return np.where(total > 0, value, np.nan)


def precision_at_11_recalls(cutoffs: Cutoffs) -> Floats:
    """Compute VOC2007's AP, the mean over r = 0, 0.1, ..., 1 of the highest precision at recalls >= r; NaN as above."""
    _, true_positives, above, _, _ = cutoffs
    total = true_positives[-1]
    highest = np.maximum.accumulate(ratio(true_positives, above)[::-1])[::-1]  # at this recall or higher
    tenths = [(10 * true_positives < tenth * total).sum(0, keepdims=True) for tenth in range(11)]
    read_off = np.concatenate([np.take_along_axis(highest, reached, 0) for reached in tenths])
    return np.where(total > 0, read_off.mean(0), np.nan)


def auroc(cutoffs: Cutoffs) -> Floats:
    """Share of the pairs (positive, negative) in the right order, a tie half; NaN without both kinds."""
    found, true_positives, above, tied, negatives = cutoffs
    below = 2 * (negatives - (above - true_positives)) + tied  # twice, so that all are integers
    pairs = true_positives[-1] * negatives
    return np.where(pairs > 0, ratio((found * below).sum(0), 2 * pairs), np.nan)


def sensitivity_at_95(cutoffs: Cutoffs) -> Floats:
    """Return the highest recall at a specificity of at least 95%, of the negatives a twentieth found; NaN as above."""
    _, true_positives, above, _, negatives = cutoffs
    highest = np.where(20 * (above - true_positives) <= negatives, true_positives, 0).max(0)
    return np.where(true_positives[-1] * negatives > 0, ratio(highest, true_positives[-1]), np.nan)


def misordered_pairs(ranks: ImageRanks) -> Floats:
    """Share of the pairs (positive u, negative v) of an image with f_v >= f_u."""
    inverted = ((ranks.above - ranks.positive_above) * ranks.positive).sum(1)
    return ratio(inverted, ranks.positives * (ranks.known - ranks.positives))


def coverage(ranks: ImageRanks) -> Floats:
    """Return how far down the ranking the last positive stands, counted from 1."""
    return (ranks.above * ranks.positive).max(1).astype(np.float64)


def one_error(ranks: ImageRanks) -> Floats:
    """Return 1 where the highest score belongs to a negative."""
    wrong = (ranks.positive_above[:, 0] < ranks.above[:, 0]) & (ranks.positives > 0)
    return wrong.astype(np.float64)


def label_ranking_precision(ranks: ImageRanks) -> Floats:
    """Return the mean over an image's positives of the precision down to them; 1 where there is nothing to rank."""
    total = np.where(ranks.positive, ratio(ranks.positive_above, ranks.above), 0.0).sum(1)
    trivial = (ranks.positives == 0) | (ranks.positives == ranks.known)
    return np.where(trivial, 1.0, ratio(total, ranks.positives))


METRICS: tuple[Metric, ...] = (
    Metric(
        key="pc_p",
        name="per-class precision",
        short_name="CP",
        note="precision, mean over the labels (eqn 27), the paper's PC-P; a label never predicted counts 0",
        formula=Average("labels", precision),
        paper=True,
    ),
    Metric(
        key="pc_r",
        name="per-class recall",
        short_name="CR",
        note="recall, mean over the labels (eqn 27), the paper's PC-R; a label never true counts 0",
        formula=Average("labels", recall),
        paper=True,
    ),
    Metric(
        key="ov_p",
        name="overall precision",
        short_name="OP",
        note="precision over all labels pooled (eqn 28), the paper's OV-P; 0 if nothing is predicted",
        formula=Average("entries", precision),
        paper=True,
    ),
    Metric(
        key="ov_r",
        name="overall recall",
        short_name="OR",
        note="recall over all labels pooled (eqn 28), the paper's OV-R; 0 if nothing is true",
        formula=Average("entries", recall),
        paper=True,
    ),
    Metric(
        key="f1",
        name="macro F1",
        short_name="F1",
        note="mean over the labels of each one's F1; a label neither predicted nor true counts 0",
        formula=Average("labels", f1),
        paper=True,
    ),
    Metric(
        key="exact_match",
        name="exact match",
        short_name="exact match",
        note="share of the images whose whole label set is right, the paper's 0-1",
        formula=Average("images", exact),
        paper=True,
    ),
    Metric(
        key="cf1",
        name="per-class F1",
        short_name="CF1",
        note="harmonic mean of CP and CR",
        formula=HarmonicMean(Average("labels", precision), Average("labels", recall)),
    ),
    Metric(
        key="of1",
        name="overall F1",
        short_name="OF1",
        note="harmonic mean of OP and OR",
        formula=HarmonicMean(Average("entries", precision), Average("entries", recall)),
    ),
    Metric(
        key="hamming_loss",
        name="Hamming loss",
        short_name="Hamming loss",
        note="share of all known entries, of every image and label, that are predicted wrongly",
        higher_is_better=False,
        formula=Average("entries", wrong),
    ),
    Metric(
        key="jaccard",
        name="Jaccard index",
        short_name="Jaccard",
        note="mean over the images of intersection over union of predicted and true labels; two empty sets count 0",
        formula=Average("images", jaccard),
    ),
    Metric(
        key="map",
        name="mean average precision",
        short_name="mAP",
        note="mean over the labels of AP, the sum of P_n (R_n - R_{n-1}) over the distinct scores (VOC since 2010, "
        "scikit-learn); labels without a positive are skipped",
        formula=Average("labels", average_precision),
        needs="scores",
    ),
    Metric(
        key="map_11",
        name="11-point mean average precision",
        short_name="mAP-11",
        note="mean over the labels of VOC2007's AP, the mean of the highest precision at a recall of at least 0, 0.1, "
        "..., 1; another dialect of mAP: one network's features are published as 83.8 and as 89.1 depending on it",
        formula=Average("labels", precision_at_11_recalls),
        needs="scores",
    ),
    Metric(
        key="micro_ap",
        name="micro average precision",
        short_name="micro AP",
        note="AP of all labels' scores in one ranking, so that their scales count; 0 without a positive",
        formula=Average("entries", average_precision),
        needs="scores",
    ),
    Metric(
        key="macro_auroc",
        name="macro AUROC",
        short_name="AUROC",
        note="mean over the labels of the area under the ROC curve, the share of pairs (positive, negative) in the "
        "right order, a tie half; labels without a positive or without a negative are skipped",
        formula=Average("labels", auroc),
        needs="scores",
    ),
    Metric(
        key="micro_auroc",
        name="micro AUROC",
        short_name="micro AUROC",
        note="area under the ROC curve of all labels' scores in one ranking; 0 without a positive or a negative",
        formula=Average("entries", auroc),
        needs="scores",
    ),
    Metric(
        key="sensitivity_95",
        name="sensitivity at 95% specificity",
        short_name="Sens@95",
        note="mean over the labels of the highest recall where at most 5% of the negatives are predicted",
        formula=Average("labels", sensitivity_at_95),
        needs="scores",
    ),
    Metric(
        key="ranking_loss",
        name="ranking loss",
        short_name="ranking loss",
        note="share of an image's pairs (positive, negative) in the wrong order or tied; 0 without a pair",
        formula=Average("images", misordered_pairs),
        needs="scores",
        higher_is_better=False,
    ),
    Metric(
        key="coverage",
        name="coverage",
        short_name="coverage",
        note="labels from the top of an image's ranking down to its last positive; 0 without a positive",
        unit="labels",
        formula=Average("images", coverage),
        needs="scores",
        higher_is_better=False,
    ),
    Metric(
        key="one_error",
        name="one-error",
        short_name="one-error",
        note="share of the images whose highest score belongs to a negative; 0 without a positive",
        formula=Average("images", one_error),
        needs="scores",
        higher_is_better=False,
    ),
    Metric(
        key="lrap",
        name="label ranking average precision",
        short_name="LRAP",
        note="mean over an image's positives of the precision down to them; 1 where there is nothing to rank",
        formula=Average("images", label_ranking_precision),
        needs="scores",
    ),
)
"""Every metric, in the order of tables and files: first what needs label sets alone, the paper's in its order."""

LABELS_PER_IMAGE = Quantity(
    key="labels_per_image",
    name="labels predicted an image",
    short_name="labels predicted an image",
    note="mean number of labels predicted",
    unit="labels",
)
MAP_CALIBRATED = Quantity(
    key="map_calibrated",
    name="mean average precision of the log odds",
    short_name="mAP of log odds",
    note="mAP of what a decision by log odds estimates from scores and features (thresh_linear, support); `map` is of "
    "the scores themselves",
)
MAP_CLASSES = Quantity(
    key="map_classes",
    name="labels in mAP",
    short_name="labels in mAP",
    note="labels with a known positive, the ones that mAP is a mean over",
    unit="labels",
)
BY_KEY: dict[str, Metric] = {metric.key: metric for metric in METRICS}
LABEL_SET_METRICS = tuple(metric for metric in METRICS if metric.needs == "label sets")
RANKING_METRICS = tuple(metric for metric in METRICS if metric.needs == "scores")
PAPER_KEYS = tuple(metric.key for metric in METRICS if metric.paper)
"""The columns of the paper's tables, in its order."""


def gain(key: str, value: float) -> float:
    """Return what an ordering by the quantity `key` maximises: its value, negated where lower is better."""
    return float(BY_KEY[key].gain(value)) if key in BY_KEY else value
