"""The threshold for all labels together, from blocks of labels: on a grid, or the best of all cut-offs.

The exact search reads the blocks twice and keeps nothing but what each positive's score gives. Predicting one more
negative never serves a metric, so a best cut-off lies just below a positive. The first reading bounds what cut-offs can
give at a few of the positives' scores; the second one counts, of the scores that could still be predicted, how each
changes the metric. These are few, since most scores of most labels are far below.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from lsep_ml.decisions.search import TIE, Bools, Integers, Scores, criterion_gain, cutoffs, first_best
from lsep_ml.metrics import Metric
from lsep_ml.metrics.counts import LabelCounts
from lsep_ml.metrics.label_blocks import LabelBlock
from lsep_ml.metrics.metric import Average, Floats, HarmonicMean, harmonic_mean, ratio
from lsep_ml.metrics.operating_points import group_changes

T = TypeVar("T")
Folds = Sequence[Integers]
"""The rows of each fold."""

_THREADS = 4  # at most, since each holds a block of scores and its sorted copy

_MARKS = 128
"""Scores of positives at which the exact search bounds what it can find."""


class Lines(NamedTuple):
    """Holds a block label by label, (B, N): scores, -inf where an entry is unknown, and its known positives."""

    scores: Scores
    positive: Bools

    @classmethod
    def of(cls, block: LabelBlock) -> "Lines":
        scores = np.ascontiguousarray(block.scores.T) + np.float32(0)  # -0.0 becomes 0.0
        positive = np.ascontiguousarray(block.targets.T)
        if block.known is not None:
            scores[~block.known.T] = -np.inf
            positive &= block.known.T
        return cls(scores, positive)


class SortedFold:
    """Holds a block's scores of some images: of each label in ascending order, (B, N), and of its positives alone."""

    def __init__(self, lines: Lines, rows: Integers) -> None:
        scores, positive = lines.scores[:, rows], lines.positive[:, rows]
        self.positives = [np.sort(of[chosen]) for of, chosen in zip(scores, positive, strict=True)]
        scores.sort(axis=1)
        self.scores: Scores = scores
        self.sizes = np.array([len(of) for of in self.positives]), (scores > -np.inf).sum(1)
        """Each label's number of positives and of known entries, (B,) each."""

    def above(self, label: int, thresholds: Scores) -> tuple[Integers, Integers]:
        """Count a label's positives and all its entries above each threshold."""
        sorted_scores = self.positives[label], self.scores[label]
        correct, predicted = (len(of) - np.searchsorted(of, thresholds, side="right") for of in sorted_scores)
        return correct, predicted


def sorted_folds(block: LabelBlock, folds: Folds) -> list[SortedFold]:
    """Return a block's scores in each fold."""
    lines = Lines.of(block)
    return [SortedFold(lines, rows) for rows in folds]


def each_block(function: Callable[[LabelBlock], T], blocks: Iterable[LabelBlock]) -> Iterator[T]:
    """Give what a function returns for each block, in order; torch's threads, `_THREADS` at most, share them out."""
    threads = min(torch.get_num_threads(), _THREADS)
    if threads == 1:
        yield from map(function, blocks)
        return
    ahead: deque[Future[T]] = deque()
    with ThreadPoolExecutor(threads) as pool:  # sorting and counting do not hold the interpreter's lock
        for block in blocks:
            ahead.append(pool.submit(function, block))
            if len(ahead) > threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


class _Counts(NamedTuple):
    """Counts entries above some thresholds in each fold, correct and predicted (F, T, B), and all, (F, B)."""

    correct: Integers
    predicted: Integers
    actual: Integers
    known: Integers

    @classmethod
    def of(cls, folds: Sequence[SortedFold], thresholds: Scores) -> "_Counts":
        found = []
        for fold in folds:
            above = [fold.above(label, thresholds) for label in range(len(fold.scores))]
            found.append((*(np.stack(of, axis=1) for of in zip(*above, strict=True)), *fold.sizes))
        return cls(*(np.stack(of) for of in zip(*found, strict=True)))

    def fits(self) -> list[tuple[Any, ...]]:
        """Return the counts of all folds and, of more than one, of all without each."""
        total = [of.sum(0) for of in self]
        without = [
            [of_all - of[fold] for of_all, of in zip(total, self, strict=True)]
            for fold in range(len(self[0]))
        ]
        return [tuple(total), *(map(tuple, without) if len(without) > 1 else ())]


def grid_thresholds(metric: Metric, blocks: Iterable[LabelBlock], grid: Scores, folds: Folds) -> list[float]:
    """Return the best threshold of an ascending grid on all folds and, of more than one, without each; the larger on a
    tie."""
    found = list(each_block(lambda block: _Counts.of(sorted_folds(block, folds), grid), blocks))
    counts = _Counts(*(np.concatenate(of, axis=-1) for of in zip(*found, strict=True)))

    def best(correct: Any, predicted: Any, actual: Any, known: Any) -> float:
        gains = criterion_gain(metric, LabelCounts(correct, predicted, actual, known, known.max(), {}))
        return float(grid[::-1][first_best(gains[::-1])])

    return [best(*of) for of in counts.fits()]


class Extent(NamedTuple):
    """Says what the exact search has to know beforehand of the known entries.

    positives, rows: (P,), the positives' scores and their images. highest: (N,), the highest score of each image, -inf
    where none is known. labels: K.
    """

    positives: Scores
    rows: Integers
    highest: Scores
    labels: int


def exact_thresholds(
    metric: Metric, blocks: Iterable[LabelBlock], known: Extent, folds: Folds
) -> list[float]:
    """Return the best of all cut-offs on all folds and, of more than one, without each; the larger on a tie.

    metric: a mean over labels or of all entries that no further negative predicted serves. The thresholds are those of
    `exact_threshold`, in the memory of the positives.
    """
    fold_of = np.full(len(known.highest), -1)
    for fold, rows in enumerate(folds):
        fold_of[rows] = fold
    fits = [
        fold_of >= 0,
        *((fold_of >= 0) & (fold_of != fold) for fold in range(len(folds)) if len(folds) > 1),
    ]
    candidates, sizes = _candidates(metric, blocks, known, folds)
    curves = [[_Curve(part, len(candidates)) for part in _parts(metric)] for _ in fits]
    highest_of_bin = np.full((len(fits), len(candidates)), -np.inf, np.float32)
    # of each image, the highest score below all candidates
    below = np.full(len(known.highest), -np.inf, np.float32)
    lowest = candidates[0] if len(candidates) else np.float32(np.inf)

    def could_be_predicted(block: LabelBlock) -> tuple[Any, ...]:
        scores, positive = Lines.of(block)
        chosen = scores >= lowest
        labels, rows = np.nonzero(chosen)
        order = np.lexsort((-scores[chosen], labels))
        ranked = scores[chosen][order]
        bins = np.searchsorted(candidates, ranked, side="right") - 1
        entries = labels[order], rows[order], ranked, positive[chosen][order], bins
        return block.labels, entries, np.where(chosen, -np.inf, scores).max(0)

    for of_block, (labels, rows, ranked, positive, bins), rest in each_block(could_be_predicted, blocks):
        np.maximum(below, rest, out=below)
        for number, fit in enumerate(fits):
            of = fit[rows]
            np.maximum.at(highest_of_bin[number], bins[of], ranked[of])
            of_labels = [size[of_block] for size in sizes[number]]
            for curve in curves[number]:
                curve.add(bins[of], labels[of], positive[of], *of_labels)
    found = []
    for number, fit in enumerate(fits):
        counted = fit[known.rows] & (known.positives >= lowest)
        at = np.searchsorted(candidates, known.positives[counted])
        taken = np.bincount(at, minlength=len(candidates))[: len(candidates)] > 0
        gains = _gains(metric, [curve.values(known.labels) for curve in curves[number]])
        best = first_best(gains[np.append(True, taken[::-1])])
        if best == 0:
            found.append(float(known.highest[fit].max()))
            continue
        place = np.flatnonzero(taken)[-best]
        lower = max(highest_of_bin[number, :place].max(initial=-np.inf), below[fit].max())
        around = [candidates[place], lower] if np.isfinite(lower) else [candidates[place]]
        found.append(float(cutoffs(np.array(around, np.float32))[1]))
    return found


def _candidates(
    metric: Metric, blocks: Iterable[LabelBlock], known: Extent, folds: Folds
) -> tuple[Scores, list[tuple[Integers, Integers]]]:
    """Return the distinct scores of positives just below which a best cut-off can lie, ascending, and for each fit the
    positives and known entries of each label, (K,).

    Between two marks a fit has at most the positives above the lower one, at least the negatives above the upper one.
    """
    distinct = np.unique(known.positives)
    marks = (
        distinct[np.unique(np.linspace(0, len(distinct) - 1, _MARKS).astype(np.intp))]
        if len(distinct)
        else distinct
    )
    values = [[_Sum(part) for part in _parts(metric)] for _ in range(len(folds) + 1 if len(folds) > 1 else 1)]
    sizes: list[list[tuple[Any, Any]]] = [[] for _ in values]
    for counts in each_block(lambda block: _Counts.of(sorted_folds(block, folds), marks).fits(), blocks):
        for number, (correct, predicted, actual, of_known) in enumerate(counts):
            most = np.concatenate([actual[None], correct[:-1]])[: len(correct)]
            reached = np.stack([correct, most])
            sizes[number].append((actual, of_known))
            for value in values[number]:
                value.add(reached, reached + (predicted - correct), actual, of_known)
    kept = np.zeros(len(marks), bool)
    for of_fit in values:
        at_marks, between = _gains(metric, [value.value(known.labels) for value in of_fit])
        kept |= between >= at_marks.max(initial=-np.inf) - 2 * TIE
    if kept.any():
        first, last = np.flatnonzero(kept)[[0, -1]]
        distinct = distinct[(distinct > (marks[first - 1] if first else -np.inf)) & (distinct <= marks[last])]
    return distinct, [tuple(np.concatenate(of) for of in zip(*of_fit, strict=True)) for of_fit in sizes]  # type: ignore[misc]


def _parts(metric: Metric) -> tuple[Average, ...]:
    return tuple(metric.formula) if isinstance(metric.formula, HarmonicMean) else (metric.formula,)


def _gains(metric: Metric, parts: Sequence[Floats]) -> Floats:
    gains: Floats = metric.gain(parts[0] if len(parts) == 1 else harmonic_mean(*parts))
    return gains


class _Sum:
    """Sums a part of a metric over blocks, of counts (..., B) and (B,)."""

    def __init__(self, part: Average) -> None:
        self.part = part
        self.total: Any = 0.0 if part.over == "labels" else [0, 0, 0, 0]

    def add(self, *counts: Any) -> None:
        if self.part.over == "labels":
            self.total = self.total + ratio(*self.part.of(*counts)).sum(-1)
        else:
            self.total = [total + of.sum(-1) for total, of in zip(self.total, counts, strict=True)]

    def value(self, labels: int) -> Floats:
        """Return the part's value, (...)."""
        return self.total / labels if self.part.over == "labels" else ratio(*self.part.of(*self.total))


class _Curve:
    """Sums over blocks how a part of a metric changes down to each of the candidates."""

    def __init__(self, part: Average, candidates: int) -> None:
        self.part, self.start = part, 0.0
        self.changes = np.zeros(candidates)
        self.counts = np.zeros((2, candidates), np.int64)
        self.sizes = np.zeros(2, np.int64)

    def add(
        self, bins: Integers, labels: Integers, positive: Bools, actual: Integers, known: Integers
    ) -> None:
        """Add a block's entries, label by label from the highest score: the last candidate that each is not below."""
        if self.part.over == "labels":
            start, changes = group_changes(self.part.of, labels, positive, actual, known)
            self.start += start.sum()
            np.add.at(self.changes, bins, changes)
        else:
            for counts, of in zip(self.counts, (bins[positive], bins), strict=True):
                np.add.at(counts, of, 1)
            self.sizes += actual.sum(), known.sum()

    def values(self, labels: int) -> Floats:
        """Return the part's value when nothing is predicted, and for each candidate from the highest."""
        if self.part.over == "labels":
            return (self.start + np.append(0.0, self.changes[::-1].cumsum())) / labels
        counts = np.pad(self.counts[:, ::-1].cumsum(1), ((0, 0), (1, 0)))
        return ratio(*self.part.of(*counts, *self.sizes))
