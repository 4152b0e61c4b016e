"""Thresholds estimated for each image, then moved by an offset to where a criterion is highest."""

from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from lsep_ml.decisions.base import FitOn
from lsep_ml.decisions.checks import Array
from lsep_ml.decisions.criteria import check_criterion, criterion_metric
from lsep_ml.decisions.label_blocks import fit_rule
from lsep_ml.decisions.learnt import NEVER, LearntThresholds
from lsep_ml.decisions.log_odds import LogOddsEstimator
from lsep_ml.decisions.per_class import PerClassThreshold
from lsep_ml.decisions.rules import GlobalThreshold
from lsep_ml.decisions.search import Scores
from lsep_ml.metrics.counts import true_entries
from lsep_ml.metrics.functional import as_numpy
from lsep_ml.metrics.metric import Average

Offset = Literal["class", "one", "none"]

FEW_POSITIVES = 20
"""Positives below which a label takes the offset that is best for all labels."""


class MovedThresholds(LearntThresholds, LogOddsEstimator):
    """Names the labels whose log odds s f_k(x) - h_k(x), h the head's outputs, exceed the offset of label k.

    Cross entropy cuts log odds at 0, probability one half; the offset moves the cut to where the criterion is highest
    on log odds from fits without the row they are of (`choose_offsets`). s is the `scale`, 1 unless it is learnt too.

    offset: "class", one offset a label; "one", the same for all labels; "none". A criterion that is no mean over labels
    takes one. So does, of "class", a label of fewer than `FEW_POSITIVES` positives: log odds of fits without some of
    them lie far down, and a cut-off below the lowest would name the label nearly everywhere. criterion, beta,
    miss_cost: as of rules.
    """

    offsets: Tensor

    def __init__(
        self,
        num_features: int,
        num_labels: int,
        hidden: Any,
        standardize: bool,
        fit_on: FitOn,
        *,
        criterion: str,
        beta: float,
        miss_cost: float,
        offset: Offset,
    ) -> None:
        check_criterion(criterion, beta, miss_cost)
        if offset not in get_args(Offset):
            raise ValueError(f"offset={offset!r}: expected 'class', 'one' or 'none'")
        super().__init__(num_features, num_labels, num_labels, hidden, standardize, fit_on)
        self.criterion, self.beta, self.miss_cost, self.offset = criterion, beta, miss_cost, offset
        self.register_buffer("offsets", torch.zeros(num_labels))

    @property
    def chooses_offsets(self) -> bool:
        return self.offset != "none"

    @property
    def scale(self) -> Tensor:
        """Return s."""
        return self.offsets.new_ones(())

    def reset(
        self, scores: Array, targets: Array, features: Array, mask: Array | None = None, *, seed: int = 0
    ) -> None:
        super().reset(scores, targets, features, mask, seed=seed)
        self.offsets.zero_()

    def log_odds_of(self, scores: Tensor, features: Tensor | None = None) -> Tensor:
        assert features is not None
        outputs = self.outputs(features)
        return self.scale * scores.to(outputs.dtype) - outputs

    def offset_rule(self) -> PerClassThreshold | GlobalThreshold:
        """Return the rule, not fitted, that chooses the offsets as thresholds of log odds."""
        goal: dict[str, Any] = {name: getattr(self, name) for name in ("criterion", "beta", "miss_cost")}
        formula = criterion_metric(**goal, by_label=True).formula
        # a mean over labels can be chosen for label by label
        if self.offset == "class" and isinstance(formula, Average) and formula.over == "labels":
            return PerClassThreshold(**goal, guard=False)
        return GlobalThreshold("exact", **goal)

    def choose_offsets(self, log_odds: Scores, targets: Any, known: Any) -> None:
        """Choose the offsets, and see which labels have no known positive: these are never named.

        log_odds: float32 (N, K), of fits without the row they are of. targets, known: bool (N, K), dense or sparse.
        """
        offsets = np.zeros(self.num_labels, np.float32)
        positives = true_entries("targets", targets, known).sum(0)
        if self.chooses_offsets and 0 < positives.sum() < known.sum():  # there is something to choose
            rule = self.offset_rule()
            fit_rule(rule, log_odds, targets, known)
            offsets += rule.theta.numpy()
            if isinstance(rule, PerClassThreshold):
                offsets[positives < FEW_POSITIVES] = rule.together
        offsets[positives == 0] = NEVER
        self.offsets = torch.from_numpy(offsets).to(self.offsets)

    def never_named(self) -> list[str]:
        """Return the problem that labels had no known positive, where some had none."""
        never = np.flatnonzero(as_numpy(self.offsets) >= NEVER)
        if not len(never):
            return []
        names = [str(label) if self.label_names is None else self.label_names[label] for label in never]
        return [f"never named, since no image it was fitted on has them: {', '.join(names)}"]

    def problems(self, scores: Array, features: Array | None = None) -> list[str]:
        return [*super().problems(scores, features), *self.never_named()]

    def _estimate(self, features: Tensor) -> Tensor:
        thresholds = (self.outputs(features) + self.offsets) / self.scale
        return torch.where(self.offsets < NEVER, thresholds, NEVER).float()
