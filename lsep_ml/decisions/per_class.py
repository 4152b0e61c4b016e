"""One threshold for every label, with a guard against overfitting the rare ones."""

import warnings
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from lsep_ml.decisions.base import FitOn
from lsep_ml.decisions.checks import MatrixBlocks
from lsep_ml.decisions.criteria import BREAK_EVEN
from lsep_ml.decisions.label_curves import LabelCurve, ascend, label_curve, label_curves
from lsep_ml.decisions.rules import ThresholdRule, check_search
from lsep_ml.decisions.search import (
    TIE,
    Bools,
    Integers,
    Ranking,
    Scores,
    add_counts,
    criterion_gain,
    exact_threshold,
    first_best,
    grid_threshold,
    rank_entries,
)
from lsep_ml.metrics.catalogue import f1
from lsep_ml.metrics.counts import LabelCounts, count_label_sets
from lsep_ml.metrics.functional import per_class_metric
from lsep_ml.metrics.metric import Average, Floats, ratio

PRIORS = (1e6, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.0)
"""What the guard chooses from, in positives of a label; the first is the global threshold in all but name."""


class PerClassThreshold(ThresholdRule):
    """Names the labels with f_k(x) > theta_k, one theta a label.

    By default theta is the best by the criterion: label by label where that is a mean over labels (F-beta also as
    `criterion="f1"` with `beta`; a cost; break-even), for every other criterion by coordinate ascent over the labels,
    from the global threshold. With min_precision, theta_k is the lowest cut-off of at least that precision (the
    most precise one where none reaches it); with min_recall, the highest cut-off of at least that recall. The
    larger threshold on a tie.

    guard: rare labels overfit. Each theta_k is shrunk to the threshold that is best for all labels together,
    with the weight n_k / (n_k + prior) of its own n_k positives; the prior is the one of `PRIORS` that does
    best out of fold (`folds` folds of images drawn from `seed`; the largest on a tie). guard=False takes each
    label's own threshold.

    search: of the threshold for all labels together, over all their scores: "exact", every distinct cut-off, or "grid",
    `steps` equally spaced ones. Where the scores do not fit in memory, `fit_by_label_blocks` does both; what it does
    not take (coordinate ascent, a demand, F-beta by its first name, break-even) ranks all known scores at once, in at
    least 60 bytes an entry.
    """

    by_label: ClassVar[bool] = True
    shrinkage: Tensor
    together: float
    """The threshold best for all labels together, once it is fitted."""

    def __init__(
        self,
        *,
        criterion: str = "f1",
        beta: float = 1.0,
        miss_cost: float = 1.0,
        min_precision: float | None = None,
        min_recall: float | None = None,
        guard: bool = True,
        folds: int = 5,
        seed: int = 0,
        search: Literal["exact", "grid"] = "exact",
        steps: int = 50,
        fit_on: FitOn = "val",
    ) -> None:
        # F1 with a beta was F-beta here before there was the criterion, its shared threshold by all entries in one
        super().__init__(criterion, fit_on, 1.0 if criterion == "f1" else beta, miss_cost)
        if not beta > 0:
            raise ValueError(f"beta={beta}: expected a positive number")
        if min_precision is not None and min_recall is not None:
            raise ValueError("min_precision and min_recall: give one of the two")
        for name, value in (("min_precision", min_precision), ("min_recall", min_recall)):
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"{name}={value}: expected a share in (0, 1]")
        if folds < 2:
            raise ValueError(f"folds={folds}: expected at least 2")
        check_search(search, steps)
        self.beta, self.min_precision, self.min_recall = beta, min_precision, min_recall
        self.guard, self.folds, self.seed = guard, folds, seed
        self.search, self.steps = search, steps
        self.register_buffer("shrinkage", torch.tensor(0.0))

    def choices(self) -> dict[str, Any]:
        return {**super().choices(), "shrinkage": float(self.shrinkage)}

    def _fit(self, matrix: MatrixBlocks) -> None:
        scores, targets, known = matrix.whole()
        if self.criterion == "f1" and self.beta != 1:
            warnings.warn(
                f"beta={self.beta} with criterion='f1' is F-beta by its first name, the threshold for all labels by "
                "all entries in one; criterion='fbeta' is the mean over the labels in both",
                stacklevel=3,
            )
        ranking = rank_entries(scores, targets, known)
        prior = self._cross_fit(scores, targets, known, ranking) if self.guard else None
        self.shrinkage = torch.tensor(prior or 0.0)
        own, self.together, positives = self._tune(scores, targets, known, ranking)
        self.theta = torch.from_numpy(shrunk(own, self.together, positives, prior))

    def _tune(
        self, scores: Scores, targets: Bools, known: Bools, ranking: Ranking
    ) -> tuple[Scores, float, Integers]:
        """Return each label's own threshold (K,), the one best for all labels, the positives of each label (K,)."""
        together = self._global(scores, targets, known, ranking)
        if self.separable():
            theta = self.own_thresholds(ranking, together)
        else:
            theta = np.full(ranking.num_labels, together, np.float32)
            ascend(theta, label_curves(ranking), scores, targets, known, self.metric)
        return theta, together, (targets & known).sum(0)

    def own_thresholds(self, ranking: Ranking, together: float) -> Scores:
        """Return each label's own threshold, (K,), for a separable goal; `together` where no entry of a label is
        known."""
        curves = label_curves(ranking, every=self.criterion == BREAK_EVEN)
        best = [together if curve is None else curve.cutoffs[self._best(curve)] for curve in curves]
        return np.array(best, np.float32)

    def separable(self) -> bool:
        """Return whether every label can be tuned on its own."""
        constrained = self.min_precision is not None or self.min_recall is not None
        formula = self.metric.formula
        return constrained or (isinstance(formula, Average) and formula.over == "labels")

    def pooled(self) -> bool:
        """Return whether the threshold for all labels together is that of all entries in one, the goal not the
        criterion."""
        of_f1 = self.criterion == "f1" and self.beta != 1
        return self.min_precision is not None or self.min_recall is not None or of_f1

    def _global(self, scores: Scores, targets: Bools, known: Bools, ranking: Ranking) -> float:
        """Return the threshold for all labels together."""
        if not self.pooled():
            if self.search == "grid":
                return grid_threshold(MatrixBlocks(scores, targets, known), self.metric, self.steps)
            return exact_threshold(ranking, self.metric)
        curve = label_curve(ranking)
        return float(curve.cutoffs[self._best(curve)])

    def _best(self, curve: LabelCurve) -> int:
        """Return the best cut-off of one label by its own curve."""
        counts = curve.correct, curve.predicted, np.array(curve.actual)
        known = np.array(len(curve.order))
        if self.min_precision is not None:
            precision = per_class_metric("precision", *counts)
            reached = precision >= self.min_precision - TIE
            return (
                first_best(np.where(reached, curve.correct, -1.0)) if reached.any() else first_best(precision)
            )
        if self.min_recall is not None:
            recall = per_class_metric("recall", *counts)
            return int((recall >= min(self.min_recall, recall.max()) - TIE).argmax())
        return first_best(self.own_gain(*counts, known))

    def own_gain(self, correct: Any, predicted: Any, actual: Any, known: Any) -> Floats:
        """Return a label's part of a criterion that is a mean over labels, negated where lower is better."""
        formula = self.metric.formula
        assert isinstance(formula, Average)  # or the criterion would not be separable
        if formula.of is f1:
            squared = self.beta**2
            return ratio((1 + squared) * correct, predicted + squared * actual)
        gains: Floats = self.metric.gain(ratio(*formula.of(correct, predicted, actual, known)))
        return gains

    def _cross_fit(self, scores: Scores, targets: Bools, known: Bools, ranking: Ranking) -> float:
        """Return the prior that does best on images that did not tune the thresholds."""
        rows = np.flatnonzero(known.any(1))
        if len(rows) < 2:
            return PRIORS[0]
        totals: list[LabelCounts] = []
        for held_out in self.held_out(rows):
            fitted = np.ones(len(scores), bool)
            fitted[held_out] = False
            tuned = self._tune(scores, targets, known & fitted[:, None], ranking.take(fitted[ranking.rows]))
            counts = [
                count_label_sets(scores[held_out] > shrunk(*tuned, prior), targets[held_out], known[held_out])
                for prior in PRIORS
            ]
            totals = [add_counts(*pair) for pair in zip(totals, counts, strict=True)] if totals else counts
        return PRIORS[first_best(np.array([self._held_out_gain(total) for total in totals]))]

    def held_out(self, rows: Integers) -> list[Integers]:
        """Return the `rows` in folds, drawn from the seed; each fold is judged by what was tuned on the others."""
        drawn = np.random.default_rng(self.seed).permutation(rows)
        return np.array_split(drawn, min(self.folds, len(rows)))

    def _held_out_gain(self, counts: LabelCounts) -> float:
        """Return what the guard maximises: the criterion, or minus the mean shortfall of what is demanded."""
        per_label = counts.correct, counts.predicted, counts.actual
        if self.min_precision is not None:
            short = self.min_precision - per_class_metric("precision", *per_label)
            return -float(short.clip(0).mean())
        if self.min_recall is not None:
            short = self.min_recall - per_class_metric("recall", *per_label)
            return -float(short.clip(0).mean())
        if self.separable():
            return float(self.own_gain(*per_label, counts.known).mean())
        return float(criterion_gain(self.metric, counts))


def shrunk(own: Scores, together: float, positives: Integers, prior: float | None) -> Scores:
    """Weigh own and global thresholds n_k : prior; without a prior, each label's own."""
    if prior is None:
        return own
    weight = ratio(positives, positives + prior)
    return (weight * own + (1 - weight) * together).astype(np.float32)
