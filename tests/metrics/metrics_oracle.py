"""The metrics written as plain loops over Python numbers, as their definitions read, and as scikit-learn has them."""

import numpy as np
from sklearn import metrics as scikit

MACRO = {"average": "macro", "zero_division": 0}
MICRO = {"average": "micro", "zero_division": 0}


def label_sets(predictions, targets, mask):
    images, labels = len(targets), len(targets[0])
    precision, recall, f1 = [], [], []
    all_correct = all_predicted = all_actual = all_wrong = all_known = 0
    for label in range(labels):
        rows = [i for i in range(images) if mask[i][label]]
        correct = sum(1 for i in rows if predictions[i][label] and targets[i][label])
        predicted = sum(1 for i in rows if predictions[i][label])
        actual = sum(1 for i in rows if targets[i][label])
        all_wrong += sum(1 for i in rows if bool(predictions[i][label]) != bool(targets[i][label]))
        all_known += len(rows)
        precision.append(correct / predicted if predicted else 0.0)
        recall.append(correct / actual if actual else 0.0)
        f1.append(2 * correct / (predicted + actual) if predicted + actual else 0.0)
        all_correct, all_predicted, all_actual = (
            all_correct + correct,
            all_predicted + predicted,
            all_actual + actual,
        )
    exact, seen, jaccard = 0, 0, 0.0
    for i in range(images):
        known = [label for label in range(labels) if mask[i][label]]
        seen += bool(known)
        exact += bool(known) and all(bool(predictions[i][j]) == bool(targets[i][j]) for j in known)
        predicted, true = ({j for j in known if sets[i][j]} for sets in (predictions, targets))
        jaccard += len(predicted & true) / len(predicted | true) if predicted | true else 0.0
    pc_p, pc_r = sum(precision) / labels, sum(recall) / labels
    ov_p = all_correct / all_predicted if all_predicted else 0.0
    ov_r = all_correct / all_actual if all_actual else 0.0
    return {
        "pc_p": pc_p,
        "pc_r": pc_r,
        "ov_p": ov_p,
        "ov_r": ov_r,
        "f1": sum(f1) / labels,
        "exact_match": exact / seen if seen else 0.0,
        "cf1": 2 * pc_p * pc_r / (pc_p + pc_r) if pc_p + pc_r else 0.0,
        "of1": 2 * ov_p * ov_r / (ov_p + ov_r) if ov_p + ov_r else 0.0,
        "jaccard": jaccard / seen if seen else 0.0,
        "hamming_loss": all_wrong / all_known if all_known else 0.0,
    }


def average_precision(pairs):
    """Of pairs (score, target) with a positive: the step sum over the distinct scores."""
    positives = sum(1 for _, y in pairs if y)
    value, before = 0.0, 0
    for cutoff in sorted({s for s, _ in pairs}, reverse=True):
        above = [y for s, y in pairs if s >= cutoff]
        found = sum(1 for y in above if y)
        value += (found - before) / positives * found / len(above)
        before = found
    return value


def eleven_points(pairs):
    """Of pairs (score, target) with a positive: the highest precision at recalls of at least 0, 0.1, ..., 1."""
    positives, points = sum(1 for _, y in pairs if y), []
    for cutoff in {s for s, _ in pairs}:
        above = [bool(y) for s, y in pairs if s >= cutoff]
        points.append((sum(above), sum(above) / len(above)))
    return sum(max(p for n, p in points if 10 * n >= tenth * positives) for tenth in range(11)) / 11


def auroc(pairs):
    """Of pairs (score, target): every positive against every negative; None without both."""
    positives, negatives = ([s for s, y in pairs if bool(y) == kind] for kind in (True, False))
    right = [1.0 if u > v else 0.5 if u == v else 0.0 for u in positives for v in negatives]
    return sum(right) / len(right) if right else None


def sensitivity_at_95(pairs):
    """Of pairs (score, target): the recall at each threshold that few negatives reach; None without both."""
    positives, negatives = ([s for s, y in pairs if bool(y) == kind] for kind in (True, False))
    if not positives or not negatives:
        return None
    recalls = [0.0]
    for threshold in {s for s, _ in pairs}:
        if sum(s >= threshold for s in negatives) * 100 <= 5 * len(negatives):
            recalls.append(sum(s >= threshold for s in positives) / len(positives))
    return max(recalls)


def ranking(scores, targets, mask):
    loss, coverage, one_error, lrap = [], [], [], []
    for row, labels, known in zip(scores, targets, mask, strict=True):
        pairs = [(s, bool(y)) for s, y, k in zip(row, labels, known, strict=True) if k]
        if not pairs:
            continue
        positives, negatives = [s for s, y in pairs if y], [s for s, y in pairs if not y]
        wrong = sum(1 for u in positives for v in negatives if v >= u)
        loss.append(wrong / (len(positives) * len(negatives)) if positives and negatives else 0.0)
        coverage.append(max((sum(1 for s, _ in pairs if s >= u) for u in positives), default=0))
        top = max(s for s, _ in pairs)
        one_error.append(float(bool(positives) and top in negatives))
        precisions = [
            sum(1 for s in positives if s >= u) / sum(1 for s, _ in pairs if s >= u) for u in positives
        ]
        lrap.append(sum(precisions) / len(precisions) if positives and negatives else 1.0)
    columns = [
        [(scores[i][label], targets[i][label]) for i in range(len(targets)) if mask[i][label]]
        for label in range(len(targets[0]))
    ]
    average = [average_precision(pairs) for pairs in columns if any(y for _, y in pairs)]
    points = [eleven_points(pairs) for pairs in columns if any(y for _, y in pairs)]
    areas = [area for pairs in columns if (area := auroc(pairs)) is not None]
    pooled = [pair for pairs in columns for pair in pairs]
    sensitivities = [value for pairs in columns if (value := sensitivity_at_95(pairs)) is not None]
    return {
        "macro_auroc": sum(areas) / len(areas) if areas else 0.0,
        "micro_auroc": auroc(pooled) or 0.0,
        "sensitivity_95": sum(sensitivities) / len(sensitivities) if sensitivities else 0.0,
        "micro_ap": average_precision(pooled) if any(y for _, y in pooled) else 0.0,
        "map": sum(average) / len(average) if average else 0.0,
        "map_11": sum(points) / len(points) if points else 0.0,
        "map_classes": len(average),
        "ranking_loss": sum(loss) / len(loss),
        "coverage": sum(coverage) / len(coverage),
        "one_error": sum(one_error) / len(one_error),
        "lrap": sum(lrap) / len(lrap),
    }


def harmonic(first, second):
    return 2 * first * second / (first + second)


def one_error(targets, scores):
    """The highest score is a negative's, ties against the prediction."""
    first = scores == scores.max(1, keepdims=True)
    return ((first & ~targets).any(1) & targets.any(1)).mean()


def eleven_points_of_curves(targets, scores):
    """VOC2007's reading of scikit-learn's precision-recall curves, without their last point (recall 0)."""
    values = []
    for label in range(targets.shape[1]):
        precision, recall, _ = scikit.precision_recall_curve(targets[:, label], scores[:, label])
        reached = recall[:-1, None] >= np.linspace(0, 1, 11) - 1e-9
        values.append((reached * precision[:-1, None]).max(0).mean())
    return np.mean(values)


def sensitivity_of_curves(targets, scores):
    """Read off scikit-learn's ROC curves at a false positive rate of at most 5%."""
    values = []
    for label in range(targets.shape[1]):
        false, true, _ = scikit.roc_curve(targets[:, label], scores[:, label], drop_intermediate=False)
        values.append(true[false <= 0.05 + 1e-9].max())
    return np.mean(values)


SCIKIT_LABEL_SETS = {
    "pc_p": lambda y, p: scikit.precision_score(y, p, **MACRO),
    "pc_r": lambda y, p: scikit.recall_score(y, p, **MACRO),
    "ov_p": lambda y, p: scikit.precision_score(y, p, **MICRO),
    "ov_r": lambda y, p: scikit.recall_score(y, p, **MICRO),
    "f1": lambda y, p: scikit.f1_score(y, p, **MACRO),
    "exact_match": scikit.accuracy_score,
    "cf1": lambda y, p: harmonic(scikit.precision_score(y, p, **MACRO), scikit.recall_score(y, p, **MACRO)),
    "of1": lambda y, p: scikit.f1_score(y, p, **MICRO),
    "hamming_loss": scikit.hamming_loss,
    "jaccard": lambda y, p: scikit.jaccard_score(y, p, average="samples", zero_division=0),
}
"""Each label-set metric of the catalogue as a function of targets and predictions, bool (N, K)."""

SCIKIT_RANKING = {
    "map": lambda y, s: scikit.average_precision_score(y[:, y.any(0)], s[:, y.any(0)], average="macro"),
    "map_11": eleven_points_of_curves,
    "micro_ap": lambda y, s: scikit.average_precision_score(y, s, average="micro"),
    "macro_auroc": lambda y, s: scikit.roc_auc_score(y, s, average="macro"),
    "micro_auroc": lambda y, s: scikit.roc_auc_score(y, s, average="micro"),
    "sensitivity_95": sensitivity_of_curves,
    "ranking_loss": scikit.label_ranking_loss,
    "coverage": scikit.coverage_error,
    "one_error": one_error,
    "lrap": scikit.label_ranking_average_precision_score,
}
"""Each ranking metric of the catalogue as a function of targets, bool (N, K), and scores."""
