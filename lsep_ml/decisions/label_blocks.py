"""Thresholds where (N, K) scores would not fit: rules fitted from blocks of labels, all labels of a block at once.

The blocks are read once for each thing that is asked of all of them, such as the range of the grid; none is kept. The
thresholds are those of `fit` on the whole matrix, to the last bit.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar, cast

import numpy as np
import torch

from lsep_ml.decisions.base import Rule
from lsep_ml.decisions.checks import Array, ChosenRows, MatrixBlocks, gives_labels
from lsep_ml.decisions.criteria import BREAK_EVEN
from lsep_ml.decisions.per_class import PRIORS, PerClassThreshold, shrunk
from lsep_ml.decisions.rules import GlobalThreshold
from lsep_ml.decisions.search import Bools, Integers, Scores, cutoffs, first_best
from lsep_ml.decisions.shared_thresholds import (
    Extent,
    Folds,
    Lines,
    SortedFold,
    each_block,
    exact_thresholds,
    grid_thresholds,
    sorted_folds,
)
from lsep_ml.metrics.counts import image_shares
from lsep_ml.metrics.label_blocks import LabelBlock
from lsep_ml.metrics.operating_points import search_grid

R = TypeVar("R", GlobalThreshold, PerClassThreshold)

LARGE = 2**24
"""Entries from which on `fit_rule` takes a matrix by blocks of labels, in the memory of a block's sorted scores."""


def take_rows(matrix: Any, chosen: Bools) -> Any:
    """Return the `chosen` rows of a matrix, bool (N,); of many entries they are read when they are asked for."""
    return ChosenRows(matrix, np.flatnonzero(chosen)) if matrix.size >= LARGE else matrix[chosen]


def fits_by_label_blocks(rule: Any) -> bool:
    """Return whether `fit_by_label_blocks` fits the rule."""
    if type(rule) not in (GlobalThreshold, PerClassThreshold):
        return False
    try:
        _check(rule)
    except ValueError:
        return False
    return True


def fit_rule(rule: Rule, scores: Array, targets: Array, mask: Array | None = None) -> None:
    """Fit a rule, in place, on a matrix: by blocks of labels from `LARGE` entries on where it can be, to the same
    bits."""
    large = scores.shape[0] * scores.shape[1] >= LARGE and gives_labels(scores)
    if large and fits_by_label_blocks(rule):
        fit_by_label_blocks(cast(Any, rule), MatrixBlocks.of(scores, targets, mask))
    else:
        rule.fit(scores, targets, mask)


def fit_by_label_blocks(rule: R, blocks: Iterable[LabelBlock]) -> R:
    """Fit `rule`, in place, and return it; an iteration of `blocks` gives every label once, in order.

    The blocks' work is shared out among torch's threads, to the same bits whatever their number.

    Raises ValueError for a rule whose search needs all labels at once: break-even by search="exact", a criterion that
    is no sum over labels (such as the exact match), beta other than 1, min_precision and min_recall; for scores that
    are not finite.
    """
    _check(rule)
    span, known = _extent(blocks, positives=rule.search == "exact")
    rows = np.flatnonzero(known.highest > -np.inf)
    if not len(rows):
        raise ValueError("blocks: no known entry to fit on")
    held_out: Folds = []
    if isinstance(rule, PerClassThreshold) and rule.guard and len(rows) >= 2:
        held_out = rule.held_out(rows)
    folds = held_out or [rows]
    if rule.search == "exact":
        together, *of_folds = exact_thresholds(rule.metric, blocks, known, folds)
    else:
        together, *of_folds = grid_thresholds(rule.metric, blocks, search_grid(span, rule.steps), folds)
    rule.num_labels = torch.tensor(known.labels)
    if isinstance(rule, GlobalThreshold):
        rule.theta = torch.tensor(together)
        return rule
    own, positives, gains = _own(rule, blocks, folds, together, of_folds)
    prior = None
    if rule.guard:
        prior = PRIORS[first_best(gains.mean(1))] if held_out else PRIORS[0]
    rule.shrinkage = torch.tensor(prior or 0.0)
    rule.theta, rule.together = torch.from_numpy(shrunk(own, together, positives, prior)), together
    return rule


def _check(rule: GlobalThreshold | PerClassThreshold) -> None:
    if rule.criterion == BREAK_EVEN and rule.search == "exact":
        raise ValueError(
            "criterion='break_even' by search='exact' ranks the scores of all labels at once; blocks of labels need "
            "search='grid'"
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


def _extent(blocks: Iterable[LabelBlock], *, positives: bool) -> tuple[Scores, Extent]:
    """Return the lowest and the highest score, and what is known; the `positives` only where they are asked for."""
    labels, span, highest = 0, np.array([np.inf, -np.inf], np.float32), np.empty(0, np.float32)
    found: list[tuple[Scores, Integers]] = [(np.empty(0, np.float32), np.empty(0, np.int64))]
    for block in blocks:
        if not np.isfinite(block.scores).all():
            label = block.start + int(np.argmin(np.isfinite(block.scores).all(0)))
            raise ValueError(f"scores of label {label} are not finite")
        if not block.scores.size:
            continue
        span = np.array([min(span[0], block.scores.min()), max(span[1], block.scores.max())])
        lines = Lines.of(block)
        of_images = lines.scores.max(0)
        highest = np.maximum(highest, of_images) if labels else of_images
        labels += block.scores.shape[1]
        if positives:
            found.append((lines.scores[lines.positive], np.nonzero(lines.positive)[1]))
    if not labels:
        raise ValueError("blocks: no scores to fit on")
    scores, rows = (np.concatenate(of) for of in zip(*found, strict=True))
    return span, Extent(scores, rows, highest, labels)


class _Cutoffs:
    """Finds a label's own threshold from all folds, or from all but one, by what each fold has above every cut-off.

    The cut-offs are those of `label_curve`: nothing predicted, then just below each positive.
    """

    def __init__(self, rule: PerClassThreshold, folds: Sequence[SortedFold], label: int) -> None:
        self.rule, every = rule, rule.criterion == BREAK_EVEN
        scores = [fold.scores[label] for fold in folds]
        positives = [fold.positives[label] for fold in folds]
        points = np.unique(np.concatenate(scores if every else positives))[::-1]
        self.points = points[points > -np.inf]  # those of unknown entries
        places = [np.searchsorted(of, self.points) for of in scores]
        self.predicted = np.stack([len(of) - at for of, at in zip(scores, places, strict=True)])
        self.correct = np.stack([len(of) - np.searchsorted(of, self.points) for of in positives])
        # The next score below each point, -inf where there is none.
        self.lower = np.stack(
            [np.where(at > 0, of[at - 1], -np.inf) for of, at in zip(scores, places, strict=True)]
        )
        self.useful = self.predicted if every else self.correct
        self.highest = np.array([of[-1] for of in scores])
        self.sizes = np.array([[of[label] for of in fold.sizes] for fold in folds])

    def best(self, together: float, without: int | None = None) -> np.float32:
        """Return the threshold that is best on all folds, or on all `without` one; the larger on a tie, and that for
        all labels `together` where no entry is known."""
        used = np.arange(len(self.sizes)) != without
        taken = np.diff(self.useful[used].sum(0), prepend=0) > 0
        correct, predicted = (np.append(0, of[used].sum(0)[taken]) for of in (self.correct, self.predicted))
        actual, known = self.sizes[used].sum(0)
        best = first_best(self.rule.own_gain(correct, predicted, actual, known))
        if best == 0:
            return np.float32(self.highest[used].max() if known else together)
        point = self.points[taken][best - 1]
        lower = self.lower[used].max(0)[taken][best - 1]
        return cutoffs(np.array([point, lower] if np.isfinite(lower) else [point], np.float32))[1]


def _own(
    rule: PerClassThreshold,
    blocks: Iterable[LabelBlock],
    folds: Folds,
    together: float,
    of_folds: Sequence[float],
) -> tuple[Any, ...]:
    """Return each label's own threshold and positives, (K,), and its gain out of fold by every prior, (priors, K)."""

    def own(block: LabelBlock) -> tuple[Any, ...]:
        parts = sorted_folds(block, folds)
        of_label = [_Cutoffs(rule, parts, label) for label in range(block.scores.shape[1])]
        positives = np.sum([part.sizes[0] for part in parts], axis=0)
        sums = np.zeros((4, len(PRIORS), len(of_label)), np.int64)
        for number, (part, shared) in enumerate(zip(parts[: len(of_folds)], of_folds, strict=True)):
            of_fold = np.array([label.best(shared, without=number) for label in of_label], np.float32)
            actual, known = part.sizes
            tried = np.stack([shrunk(of_fold, shared, positives - actual, prior) for prior in PRIORS])
            for label, of_priors in enumerate(tried.T):
                sums[:2, :, label] += part.above(label, of_priors)
            sums[2:] += np.stack([actual, known])[:, None]
        thresholds = np.array([label.best(together) for label in of_label], np.float32)
        return thresholds, positives, rule.own_gain(*sums)

    return tuple(np.concatenate(of, axis=-1) for of in zip(*each_block(own, blocks), strict=True))
