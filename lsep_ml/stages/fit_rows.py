"""The rows that a decision is fitted on."""

from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from lsep_ml.data import DataSet
from lsep_ml.decisions import Decision, LearntDecision, label_blocks
from lsep_ml.decisions.checks import StackedRows, check_fit
from lsep_ml.decisions.label_blocks import take_rows
from lsep_ml.decisions.log_odds import LogOddsDecision
from lsep_ml.metrics.indicator import stacked
from lsep_ml.stages.extraction import Extraction
from lsep_ml.stages.scores import training_scores
from lsep_ml.training.fitting import fit_decision
from lsep_ml.training.folds import Rows, checked_rows, draw_folds


def fitted_on(decision: Decision, out_of_fold: bool) -> tuple[str, ...]:
    """Return the splits whose rows `decision.fit_on` asks for, training before validation.

    With "crossfit" these are the training images, by their out-of-fold scores, and the validation images; learnt
    decisions take the training images alone. Without `out_of_fold` scores, the validation images.
    """
    if decision.fit_on == "both":
        return "train", "val"
    if decision.fit_on == "crossfit":
        return ("val",) if not out_of_fold else ("train",) if is_trained(decision) else ("train", "val")
    return (decision.fit_on,)


def fits_folds(decision: Decision, out_of_fold: bool) -> bool:
    """Return whether a decision is fitted without folds too: to choose by, or to judge validation images by."""
    if isinstance(decision, LearntDecision) and decision.chooses_offsets:
        return True
    return isinstance(decision, LogOddsDecision) or "val" in fitted_on(decision, out_of_fold)


def is_trained(decision: Decision) -> TypeGuard[LearntDecision]:
    """Return whether a decision is learnt in a training, and not solved for."""
    return isinstance(decision, LearntDecision) and not isinstance(decision, LogOddsDecision)


@dataclass(frozen=True)
class FitRows:
    """Holds the rows that a decision is fitted on, arrays of N rows, training images before validation images; targets
    and mask dense or sparse.

    scores: an array, `ComputedScores`, or such of both splits below each other.
    val: which rows of the validation split are among them, the last ones: all or none. folds: (N,), rows that are left
    out together. further: targets and mask of the training images, where they are not among the rows and the decision
    counts label sets.
    """

    scores: NDArray[np.float32]
    targets: Any
    features: NDArray[np.float32]
    mask: Any
    val: NDArray[np.bool_]
    folds: NDArray[np.int64]
    further: tuple[Any, Any] | None

    @classmethod
    def of(cls, decision: Decision, extraction: Extraction, data_set: DataSet, seed: int) -> "FitRows":
        """Return the rows that `decision.fit_on` asks for, those of the splits that `fitted_on` names."""
        out_of_fold = extraction.out_of_fold() if decision.fit_on == "crossfit" else None
        names = fitted_on(decision, out_of_fold is not None)
        splits = {name: extraction.split(name) for name in names}
        scores = {name: split.scores for name, split in splits.items()}
        if out_of_fold is not None:
            scores["train"] = out_of_fold.scores
        elif "train" in names:
            scores["train"] = training_scores(extraction, stored=not decision.fits_by_rows)
        masks = [split.mask for split in splits.values() if split.mask is not None]
        groups = [data_set.split(name).groups for name in names]
        further = None
        if names == ("val",) and decision.counts_label_sets:
            of_train = extraction.split("train")
            further = of_train.targets, of_train.mask
        sizes = {name: len(split.targets) for name, split in splits.items()}
        rows = sum(sizes.values())
        return cls(
            _join_scores([values for values in scores.values() if values is not None]),
            _join([split.targets for split in splits.values()]),
            _join([split.features for split in splits.values()]),
            _join(masks) if masks else None,
            np.arange(rows) >= rows - sizes.get("val", 0),
            draw_folds(rows, seed, None if any(g is None for g in groups) else _join(groups)),
            further,
        )

    def take(self, chosen: NDArray[np.bool_]) -> "FitRows":
        """Take some of the rows; many scores are read when they are asked for."""
        mask = None if self.mask is None else self.mask[chosen]
        arrays = (take_rows(self.scores, chosen), self.targets[chosen], self.features[chosen], mask)
        return FitRows(*arrays, self.val[chosen], self.folds[chosen], self.further)

    def fit(self, decision: Decision, **options: Any) -> None:
        """Fit the decision, which is not one by log odds, on these rows."""
        arrays = (self.scores, self.targets, self.features, self.mask)
        fit_decision(decision, *arrays, folds=self.folds, **options)

    def by_log_odds(self, decision: LogOddsDecision) -> Rows:
        """Return the rows as a decision by log odds is fitted on them.

        Raises ValueError for data that no decision can be fitted on.
        """
        check_fit(self.scores, self.targets, self.mask)
        judged = self.val if self.val.any() and not self.val.all() else None
        arrays = (self.scores, self.targets, self.features, self.mask)
        return checked_rows(decision, *arrays, folds=self.folds, validation=judged, further=self.further)


def _join_scores(scores: Any) -> Any:
    """Return the scores of all splits; many stay where they are."""
    if len(scores) > 1 and sum(values.size for values in scores) >= label_blocks.LARGE:
        return StackedRows(scores)
    return _join([np.asarray(values) for values in scores] if len(scores) > 1 else scores)


def _join(arrays: Any) -> Any:
    return arrays[0] if len(arrays) == 1 else stacked(arrays)
