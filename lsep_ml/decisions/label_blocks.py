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

from lsep_ml.decisions.criteria import BREAK_EVEN
from lsep_ml.decisions.per_class import PRIORS, PerClassThreshold, shrunk
from lsep_ml.decisions.rules import GlobalThreshold
from lsep_ml.decisions.search import Integers, Scores, criterion_gain, cutoffs, first_best
from lsep_ml.metrics.counts import LabelCounts, image_shares
from lsep_ml.metrics.label_blocks import LabelBlock
from lsep_ml.metrics.metric import Floats
from lsep_ml.metrics.operating_points import search_grid

R = TypeVar("R", GlobalThreshold, PerClassThreshold)
Rows = Sequence[Integers]

LARGE = 2**24
"""Entries from which on `fit_decision` takes a matrix by blocks of labels, in the memory of a block's sorted scores."""


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


class _SortedFold:
    """Holds a block's scores of some images: of each label in ascending order, (B, N), and of its positives alone."""

    def __init__(self, block: LabelBlock, rows: Integers) -> None:
        scores, positive = (
            block.scores.T[:, rows] + np.float32(0),
            block.targets.T[:, rows],
        )  # -0.0 becomes 0.0
        self.positives = [np.sort(of[chosen]) for of, chosen in zip(scores, positive, strict=True)]
        scores.sort(axis=1)
        self.scores: Scores = scores

    def sizes(self) -> tuple[Integers, Integers]:
        """Count each label's positives and known entries, (B,) each."""
        return np.array([len(of) for of in self.positives]), np.full(len(self.scores), self.scores.shape[1])

    def above(self, label: int, thresholds: Scores) -> tuple[Integers, Integers]:
        """Count a label's positives and all its entries above each threshold."""
        sorted_scores = self.positives[label], self.scores[label]
        correct, predicted = (len(of) - np.searchsorted(of, thresholds, side="right") for of in sorted_scores)
        return correct, predicted


def _sorted(block: LabelBlock, folds: Rows) -> list[_SortedFold]:
    return [_SortedFold(block, rows) for rows in folds]


def _thresholds_together(
    rule: GlobalThreshold | PerClassThreshold, blocks: Iterable[LabelBlock], grid: Scores, folds: Rows
) -> list[float]:
    """Return the threshold for all labels together from all rows, and from the rows outside of each fold."""
    found: list[list[tuple[Any, ...]]] = [[] for _ in folds]
    for block in blocks:
        for counts, fold in zip(found, _sorted(block, folds), strict=True):
            above = [fold.above(label, grid) for label in range(len(fold.scores))]
            counts.append((*(np.stack(of, axis=1) for of in zip(*above, strict=True)), *fold.sizes()))
    # Correct and predicted (T, K), actual and known (K,), of each fold.
    of_fold = [[np.concatenate(of, axis=-1) for of in zip(*counts, strict=True)] for counts in found]
    total = [np.sum(of, axis=0) for of in zip(*of_fold, strict=True)]
    fitted = [total, *([of_all - of for of_all, of in zip(total, fold, strict=True)] for fold in of_fold)]

    def best(correct: Any, predicted: Any, actual: Any, known: Any) -> float:
        gains = criterion_gain(rule.metric, LabelCounts(correct, predicted, actual, known, known.max(), {}))
        return float(grid[::-1][first_best(gains[::-1])])

    return [best(*of) for of in (fitted if len(folds) > 1 else fitted[:1])]


class _Cutoffs:
    """Finds a label's own threshold from all folds, or from all but one, by what each fold has above every cut-off.

    The cut-offs are those of `label_curve`: nothing predicted, then just below each positive.
    """

    def __init__(self, rule: PerClassThreshold, folds: Sequence[_SortedFold], label: int) -> None:
        self.rule, every = rule, rule.criterion == BREAK_EVEN
        scores = [fold.scores[label] for fold in folds]
        positives = [fold.positives[label] for fold in folds]
        self.points = np.unique(np.concatenate(scores if every else positives))[::-1]
        places = [np.searchsorted(of, self.points) for of in scores]
        self.predicted = np.stack([len(of) - at for of, at in zip(scores, places, strict=True)])
        self.correct = np.stack([len(of) - np.searchsorted(of, self.points) for of in positives])
        # The next score below each point, -inf where there is none.
        self.lower = np.stack(
            [np.where(at > 0, of[at - 1], -np.inf) for of, at in zip(scores, places, strict=True)]
        )
        self.useful = self.predicted if every else self.correct
        self.highest = np.array([of[-1] for of in scores])
        self.sizes = np.array([[len(of), len(all_)] for of, all_ in zip(positives, scores, strict=True)])

    def best(self, without: int | None = None) -> np.float32:
        """Return the threshold that is best on all folds, or on all `without` one; the larger on a tie."""
        used = np.arange(len(self.sizes)) != without
        taken = np.diff(self.useful[used].sum(0), prepend=0) > 0
        correct, predicted = (np.append(0, of[used].sum(0)[taken]) for of in (self.correct, self.predicted))
        actual, known = self.sizes[used].sum(0)
        best = first_best(self.rule.own_gain(correct, predicted, actual, known))
        if best == 0:
            return np.float32(self.highest[used].max())
        point = self.points[taken][best - 1]
        lower = self.lower[used].max(0)[taken][best - 1]
        return cutoffs(np.array([point, lower] if np.isfinite(lower) else [point], np.float32))[1]


def _own(
    rule: PerClassThreshold,
    blocks: Iterable[LabelBlock],
    together: float,
    folds: Rows,
    of_folds: Sequence[float],
) -> tuple[Scores, Integers, Floats]:
    """Return each label's own threshold and positives, (K,), and its gain out of fold by every prior, (priors, K)."""
    own: list[np.float32] = []
    positives: list[Integers] = []
    gains: list[Floats] = []
    for block in blocks:
        parts = _sorted(block, folds or [np.arange(len(block.scores))])
        of_label = [_Cutoffs(rule, parts, label) for label in range(block.scores.shape[1])]
        own += [label.best() for label in of_label]
        positives.append(np.sum([part.sizes()[0] for part in parts], axis=0))
        sums = np.zeros((4, len(PRIORS), len(of_label)), np.int64)
        for number, (part, shared) in enumerate(zip(parts[: len(of_folds)], of_folds, strict=True)):
            of_fold = np.array([label.best(without=number) for label in of_label], np.float32)
            actual, known = part.sizes()
            tried = np.stack([shrunk(of_fold, shared, positives[-1] - actual, prior) for prior in PRIORS])
            for label, thresholds in enumerate(tried.T):
                sums[:2, :, label] += part.above(label, thresholds)
            sums[2:] += np.stack([actual, known])[:, None]
        gains.append(rule.own_gain(*sums))
    return np.array(own, np.float32), np.concatenate(positives), np.concatenate(gains, axis=1)


def _prior(rule: PerClassThreshold, gains: Floats, images: int) -> float | None:
    if not rule.guard:
        return None
    return PRIORS[first_best(gains.mean(1))] if images >= 2 else PRIORS[0]
