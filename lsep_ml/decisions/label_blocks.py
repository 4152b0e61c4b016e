"""Thresholds where (N, K) scores would not fit: rules fitted from blocks of labels, all labels of a block at once.

A block is read three times, for the range of the grid, for the threshold of all labels together, and for each label's
own; none is kept. The thresholds are those of `fit` on the whole matrix, to the last bit.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from lsep_ml.decisions.per_class import PRIORS, PerClassThreshold, shrunk
from lsep_ml.decisions.rules import GlobalThreshold
from lsep_ml.decisions.search import Integers, Scores, criterion_gain, first_best, rank_entries
from lsep_ml.metrics.counts import LabelCounts, image_shares
from lsep_ml.metrics.label_blocks import LabelBlock
from lsep_ml.metrics.metric import Floats
from lsep_ml.metrics.operating_points import Thresholded, search_grid

R = TypeVar("R", GlobalThreshold, PerClassThreshold)
Rows = Sequence[Integers]

LARGE = 2**24
"""Entries from which on `fit_decision` takes a matrix by blocks of labels, in the memory of a block's ranking."""


@dataclass(frozen=True)
class MatrixBlocks:
    """Reads a matrix of scores (N, K), which may be memory-mapped, and its targets `block` labels at a time."""

    scores: NDArray[Any]
    targets: NDArray[Any]
    block: int = 64

    def __iter__(self) -> Iterator[LabelBlock]:
        for start in range(0, self.scores.shape[1], self.block):
            labels = slice(start, start + self.block)
            scores = np.ascontiguousarray(self.scores[:, labels], np.float32)
            yield LabelBlock(start, scores, self.targets[:, labels] != 0)


def fits_by_label_blocks(rule: Any) -> bool:
    """Return whether `fit_by_label_blocks` fits the rule."""
    if type(rule) not in (GlobalThreshold, PerClassThreshold):
        return False
    try:
        _check(rule)
    except ValueError:
        return False
    return True


def fit_by_label_blocks(rule: R, blocks: Iterable[LabelBlock]) -> R:
    """Fit `rule`, in place, and return it; an iteration of `blocks` gives every label once, in order.

    Raises ValueError for a rule whose search needs all labels at once: search="exact", a criterion that is no sum over
    labels (such as the exact match), beta other than 1, min_precision and min_recall; for scores that are not finite.
    """
    _check(rule)
    images, labels, grid = _extent(blocks, rule.steps)
    held_out: Rows = []
    if isinstance(rule, PerClassThreshold) and rule.guard and images >= 2:
        held_out = rule.held_out(np.arange(images))
    together, *of_folds = _thresholds_together(rule, blocks, grid, held_out or [np.arange(images)])
    rule.num_labels = torch.tensor(labels)
    if isinstance(rule, GlobalThreshold):
        rule.theta = torch.tensor(together)
        return rule
    own, positives, gains = _own(rule, blocks, together, held_out, of_folds)
    prior = _prior(rule, gains, images)
    rule.shrinkage = torch.tensor(prior or 0.0)
    rule.theta = torch.from_numpy(shrunk(own, together, positives, prior))
    return rule


def _check(rule: GlobalThreshold | PerClassThreshold) -> None:
    if rule.search != "grid":
        raise ValueError(
            f"search={rule.search!r} ranks the scores of all labels at once; blocks of labels need 'grid'"
        )
    if image_shares(rule.metric.formula):
        raise ValueError(
            f"criterion={rule.metric.key!r} compares whole label sets; blocks of labels need one that is a sum over "
            "labels, such as f1"
        )
    if isinstance(rule, PerClassThreshold) and (rule.pooled() or not rule.separable()):
        raise ValueError(
            "blocks of labels need a criterion that divides by label, without beta, min_precision or min_recall"
        )


def _extent(blocks: Iterable[LabelBlock], steps: int) -> tuple[int, int, Scores]:
    """Return images, labels and the grid of thresholds from the lowest to the highest score."""
    low, high, images, labels = np.inf, -np.inf, 0, 0
    for block in blocks:
        if not np.isfinite(block.scores).all():
            label = block.start + int(np.argmin(np.isfinite(block.scores).all(0)))
            raise ValueError(f"scores of label {label} are not finite")
        low, high = min(low, float(block.scores.min())), max(high, float(block.scores.max()))
        images, labels = block.scores.shape[0], labels + block.scores.shape[1]
    if not images or not labels:
        raise ValueError("blocks: no scores to fit on")
    return images, labels, search_grid(np.array([low, high], np.float32), steps)


def _thresholds_together(
    rule: GlobalThreshold | PerClassThreshold, blocks: Iterable[LabelBlock], grid: Scores, folds: Rows
) -> list[float]:
    """Return the threshold for all labels together from all rows, and from the rows outside of each fold."""
    found: list[list[tuple[Any, ...]]] = [[] for _ in folds]
    for block in blocks:
        known = np.ones(block.targets.shape, bool)
        for fold, rows in zip(found, folds, strict=True):
            at_theta = Thresholded(block.scores[rows], known[rows], grid).counts(block.targets[rows], ())
            fold.append((at_theta.correct, at_theta.predicted, at_theta.actual, at_theta.known))
    # Correct and predicted (T, K), actual and known (K,), of each fold.
    counts = [[np.concatenate(of, axis=-1) for of in zip(*fold, strict=True)] for fold in found]
    total = [np.sum(of, axis=0) for of in zip(*counts, strict=True)]
    fitted = [total, *([of_all - of for of_all, of in zip(total, fold, strict=True)] for fold in counts)]

    def best(correct: Any, predicted: Any, actual: Any, known: Any) -> float:
        gains = criterion_gain(rule.metric, LabelCounts(correct, predicted, actual, known, known.max(), {}))
        return float(grid[::-1][first_best(gains[::-1])])

    return [best(*of) for of in (fitted if len(folds) > 1 else fitted[:1])]


def _own(
    rule: PerClassThreshold,
    blocks: Iterable[LabelBlock],
    together: float,
    folds: Rows,
    of_folds: Sequence[float],
) -> tuple[Scores, Integers, Floats]:
    """Return each label's own threshold and positives, (K,), and its gain out of fold by every prior, (priors, K)."""
    own: list[Scores] = []
    positives: list[Integers] = []
    gains: list[Floats] = []
    for block in blocks:
        scores, targets = block.scores, block.targets
        ranking = rank_entries(scores, targets, np.ones(targets.shape, bool))
        own.append(rule.own_thresholds(ranking, together))
        positives.append(targets.sum(0))
        sums = np.zeros((4, len(PRIORS), targets.shape[1]), np.int64)
        for rows, shared in zip(folds, of_folds, strict=True):
            fitted = np.ones(len(scores), bool)
            fitted[rows] = False
            of_fold = rule.own_thresholds(ranking.take(fitted[ranking.rows]), shared)
            actual = positives[-1] - targets[rows].sum(0)
            for place, prior in enumerate(PRIORS):
                sets = scores[rows] > shrunk(of_fold, shared, actual, prior)
                sums[:, place] += _counts(sets, targets[rows])
        gains.append(rule.own_gain(*sums))
    return np.concatenate(own), np.concatenate(positives), np.concatenate(gains, axis=1)


def _counts(sets: Any, targets: Any) -> Integers:
    """Correct, predicted, actual and known images of each label, (4, B)."""
    known = np.full(targets.shape[1], len(targets))
    return np.stack([(sets & targets).sum(0), sets.sum(0), targets.sum(0), known])


def _prior(rule: PerClassThreshold, gains: Floats, images: int) -> float | None:
    if not rule.guard:
        return None
    return PRIORS[first_best(gains.mean(1))] if images >= 2 else PRIORS[0]
