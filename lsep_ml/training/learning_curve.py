"""Would more labelled images help, and which: learning curves by label on frozen features, and images ranked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lsep_ml.data.stratified import stratified_folds
from lsep_ml.decisions import Calibrated, PerClassThreshold
from lsep_ml.losses import bce_loss
from lsep_ml.metrics.bootstrap import percentiles, replicate_weights
from lsep_ml.metrics.functional import average_precisions, count_label_sets, per_class_metrics
from lsep_ml.training.linear_scores import StandardisedFeatures
from lsep_ml.training.probe import ProbeImages, best_of, next_on_path, weight_decay
from lsep_ml.training.standardisation import ScoreLayer

SHARES = (0.25, 0.5, 1.0)
"""Of the training images of each fold."""


@dataclass(frozen=True)
class LabelledRows:
    """Holds N images whose labels are known, at least in part.

    features: float32 (N, D). targets: uint8 0/1 (N, K). mask: bool (N, K), True where known; None: all. groups: (N,),
    equal for images that stay in one fold; None: each stands for itself.
    """

    features: Tensor
    targets: NDArray[np.uint8]
    mask: NDArray[np.bool_] | None = None
    groups: NDArray[np.int64] | None = None

    @property
    def known(self) -> NDArray[np.bool_]:
        return np.ones(self.targets.shape, bool) if self.mask is None else self.mask


@dataclass(frozen=True)
class Point:
    """Holds what a share of the training images reaches, out of fold.

    share, images: of the training images, and how many these are in a fold. weight_decay: the best by mAP; each point
    chooses its own. scores: float32 (N, K), of each image by the fit without its fold. ap, f1: (K,), NaN without a
    known positive; the label sets are those of thresholds that were fitted on the other folds. map, mean_f1: their
    means. *_interval: 95%, by the bootstrap over images, (K, 2) and (2,).
    """

    share: float
    images: int
    weight_decay: float
    scores: NDArray[np.float32]
    ap: NDArray[np.float64]
    f1: NDArray[np.float64]
    ap_interval: NDArray[np.float64]
    f1_interval: NDArray[np.float64]
    map_interval: NDArray[np.float64]
    mean_f1_interval: NDArray[np.float64]

    @property
    def map(self) -> float:
        return _mean(self.ap)

    @property
    def mean_f1(self) -> float:
        return _mean(self.f1)


def learning_curve(
    labelled: LabelledRows,
    *,
    shares: Sequence[float] = SHARES,
    folds: int = 5,
    replicates: int = 200,
    seed: int = 0,
) -> list[Point]:
    """Fit linear scores by binary cross entropy on shares of the training images, the smaller part of the larger.

    Each image is scored by fits that saw neither it nor its group.

    Raises:
        ValueError: a share outside (0, 1], or nothing that could be fitted.
    """
    wrong = next((share for share in shares if not 0 < share <= 1), None)
    if wrong is not None:
        raise ValueError(f"shares: {wrong}; expected numbers above 0 and at most 1")
    numbers = stratified_folds(labelled.targets, folds, seed, labelled.groups)
    return [_point(labelled, share, numbers, replicates, seed) for share in shares]


def _point(
    labelled: LabelledRows, share: float, folds: NDArray[np.int64], replicates: int, seed: int
) -> Point:
    order = np.random.default_rng(seed).permutation(len(folds))
    rows = []
    for fold in range(int(folds.max()) + 1):
        rest = order[folds[order] != fold]
        rows.append(np.sort(rest[: max(1, round(share * len(rest)))]))
    decay, scores = _out_of_fold(labelled, rows, folds)
    label_sets = np.zeros(scores.shape, bool)
    for fold in range(len(rows)):
        inside = folds == fold
        rest = [part[~inside] for part in (scores, labelled.targets, labelled.known)]
        label_sets[inside] = PerClassThreshold().fit(*rest).predict(scores[inside]).numpy()
    values = _values(scores, label_sets, labelled.targets, labelled.known)
    drawn = np.array(list(_resampled(scores, label_sets, labelled, replicates, seed)))  # (R, 2, K)
    means = np.array([[_mean(one) for one in both] for both in drawn])
    return Point(
        share,
        round(float(np.mean([len(part) for part in rows]))),
        decay,
        scores,
        values[0],
        values[1],
        _interval(drawn[:, 0]),
        _interval(drawn[:, 1]),
        _interval(means[:, :1])[0],
        _interval(means[:, 1:])[0],
    )


def _out_of_fold(
    labelled: LabelledRows, rows: Sequence[NDArray[np.int64]], folds: NDArray[np.int64]
) -> tuple[float, NDArray[np.float32]]:
    """Return the weight decay of the highest mAP, and the scores of each fold's images by the fit on its `rows`."""
    images = _images(labelled)
    zero, tolerance = images.start(bce_loss)
    parts = [images.only(torch.from_numpy(part)) for part in rows]
    blocks = [part.blocks() for part in parts]
    held_out = [
        images.only(torch.from_numpy(np.flatnonzero(folds == fold))).blocks() for fold in range(len(rows))
    ]
    starts: list[ScoreLayer] = [zero] * len(rows)
    maps: dict[int, float] = {}
    found: dict[int, NDArray[np.float32]] = {}
    while (step := next_on_path(maps)) is not None:
        scores = np.empty(labelled.targets.shape, np.float32)
        for fold, part in enumerate(parts):
            starts[fold], _ = part.solve(
                bce_loss, weight_decay(step), starts[fold], blocks[fold], tolerance=tolerance
            )
            with torch.no_grad():
                scores[folds == fold] = held_out[fold].scores(starts[fold]).numpy()
        found[step] = scores
        maps[step] = _mean(average_precisions(scores, labelled.targets, labelled.known))
    best = best_of(maps)
    return weight_decay(best), found[best]


def _images(labelled: LabelledRows) -> ProbeImages:
    mask = None if labelled.mask is None else torch.from_numpy(labelled.mask)
    return ProbeImages(StandardisedFeatures(labelled.features), torch.from_numpy(labelled.targets), mask)


def _values(
    scores: NDArray[np.float32],
    label_sets: NDArray[np.bool_],
    targets: NDArray[np.uint8],
    known: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Average precision and F1 of every label, (2, K)."""
    counts = count_label_sets(label_sets, targets, known)
    f1 = per_class_metrics(counts.correct, counts.predicted, counts.actual)["f1"]
    return np.stack([average_precisions(scores, targets, known), np.where(counts.actual > 0, f1, np.nan)])


def _resampled(
    scores: NDArray[np.float32],
    label_sets: NDArray[np.bool_],
    labelled: LabelledRows,
    replicates: int,
    seed: int,
) -> Iterator[NDArray[np.float64]]:
    for weights in replicate_weights(len(scores), replicates, seed):
        for times in weights:
            rows = np.repeat(np.arange(len(scores)), times)
            yield _values(scores[rows], label_sets[rows], labelled.targets[rows], labelled.known[rows])


def _interval(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the 95% interval of each column of (R, K), NaN left out: (K, 2)."""
    ends = np.full((values.shape[1], 2), np.nan)
    for column in range(values.shape[1]):
        finite = values[np.isfinite(values[:, column]), column]
        if len(finite):
            ends[column] = percentiles(finite)
    return ends


def _mean(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


@dataclass(frozen=True)
class RankedRows:
    """Holds what is said of M images without labels, the one that would tell most first.

    order: int64 (M,), their rows. priority: (M,) of the rows as they are given; so are scores, thresholds,
    probabilities, float32 (M, K), and label_sets, bool (M, K).
    """

    order: NDArray[np.int64]
    priority: NDArray[np.float64]
    scores: NDArray[np.float32]
    label_sets: NDArray[np.bool_]
    thresholds: NDArray[np.float32]
    probabilities: NDArray[np.float32]


def rank(labelled: LabelledRows, point: Point, features: Tensor) -> RankedRows:
    """Rank images without labels by how near they are to the thresholds of labels, rare labels first.

    The scores are fitted on all labelled images with the weight decay of `point`, thresholds and calibration on its
    scores out of fold. z_k is the calibrated log odds of label k, t_k that of its threshold, n_k the known positives;
    the priority of an image is the sum over labels of 2 / (1 + exp |z_k - t_k|) / max(n_k, 1).

    Args:
        labelled: the images that have labels.
        point: the last of `learning_curve`.
        features: float32 (M, D), of the others.
    """
    images = _images(labelled)
    zero, tolerance = images.start(bce_loss)
    layer, _ = images.solve(bce_loss, point.weight_decay, zero, images.blocks(), tolerance=tolerance)
    raw = images.features.standardisation.raw(layer)
    with torch.no_grad():
        scores = torch.addmm(raw.bias, features, raw.weight.T)
    threshold = PerClassThreshold().fit(point.scores, labelled.targets, labelled.known)
    calibrated = Calibrated().fit(point.scores, labelled.targets, labelled.known)
    decided = threshold.decide(scores)
    assert decided.thresholds is not None
    log_odds, at_threshold = (calibrated.log_odds_of(part).numpy() for part in (scores, decided.thresholds))
    positives = (labelled.targets.astype(bool) & labelled.known).sum(axis=0)
    with np.errstate(over="ignore"):
        closeness = 2 / (1 + np.exp(np.abs(log_odds - at_threshold)))
    priority = closeness @ (1 / np.maximum(positives, 1))
    return RankedRows(
        np.argsort(-priority, kind="stable"),
        priority,
        scores.numpy(),
        decided.label_sets.numpy(),
        decided.thresholds.numpy(),
        calibrated.probabilities(scores).float().numpy(),
    )
