"""Learnt decisions: the paper's label counts (eqn 14) and thresholds (eqns 15, 16), and one threshold an image."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from lsep_ml.decisions.base import Decided, FitOn
from lsep_ml.decisions.checks import Array
from lsep_ml.decisions.learnt import LearntDecision, LearntThresholds, middle_threshold
from lsep_ml.decisions.offset import MovedThresholds, Offset
from lsep_ml.decisions.rules import highest
from lsep_ml.metrics.counts import as_held, binary, row_slices
from lsep_ml.metrics.functional import as_numpy, known_entries


class CountEstimation(LearntDecision):
    """Label count estimation (eqn 14): the head picks a count k^, the k^ highest scores are the label set.

    An n-way softmax over the counts 1..n, n = min(max_count, K), trained by cross entropy; larger counts are
    capped at n. With zero_class the counts are 0..n, so that "no label" is a legal answer; without it an
    image that has no label counts as 1. Images with unknown entries have no known count and are left out of
    the loss.
    """

    decides_by: ClassVar[tuple[str, ...]] = ("counts",)
    learns_from_scores = False

    def __init__(
        self,
        num_features: int,
        num_labels: int,
        max_count: int = 4,
        hidden: Sequence[int] = (100, 10),
        *,
        zero_class: bool = False,
        standardize: bool = True,
        fit_on: FitOn = "train",
    ) -> None:
        if max_count is None or max_count < 1:
            raise ValueError(f"max_count={max_count}: expected at least 1, such as largest_count(targets)")
        lowest = 0 if zero_class else 1
        highest = min(max_count, num_labels)
        super().__init__(num_features, num_labels, highest - lowest + 1, hidden, standardize, fit_on)
        self.max_count, self.zero_class = max_count, zero_class
        self.lowest, self.highest = lowest, highest

    def counts(self, features: Array) -> Tensor:
        """Return the estimated label counts k^, int64 (N,)."""
        return self._estimates(features, len(features))

    def forward(self, scores: Tensor, features: Tensor | None = None) -> Decided:
        assert features is not None
        counts = self._estimate(features)
        return Decided(highest(scores, counts), counts=counts)

    def loss_of(self, outputs: Tensor, scores: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute the cross entropy of the capped label count, averaged over the images whose every entry is known."""
        counted = torch.ones_like(targets[:, 0], dtype=torch.bool) if mask is None else mask.bool().all(1)
        classes = (targets != 0).sum(1).clamp(self.lowest, self.highest) - self.lowest
        losses = F.cross_entropy(outputs, classes, reduction="none")
        return (losses * counted).sum() / counted.sum().clamp_min(1)

    def _constant(self, scores: Array, targets: Array, mask: Array | None) -> Tensor:
        images = np.zeros(self.highest - self.lowest + 1, np.int64)  # with each of the counts
        for rows in row_slices(*targets.shape):
            labels = as_numpy(targets[rows]) != 0
            if mask is not None:
                labels = labels[(as_numpy(mask[rows]) != 0).all(1)]
            counts = labels.sum(1).clip(self.lowest, self.highest) - self.lowest
            images += np.bincount(counts, minlength=len(images))
        if not images.any():
            raise ValueError("mask: no image has all its labels known; label counts cannot be learnt from it")
        frequency = images + 1.0
        return torch.from_numpy(np.log(frequency / frequency.sum())).float()

    def _estimate(self, features: Tensor) -> Tensor:
        return self.outputs(features).argmax(1) + self.lowest


def largest_count(targets: Array, mask: Array | None = None, share: float = 0.99) -> int:
    """Return the smallest n that is no less than the label count of a `share` of the images, at least 1.

    targets 0/1 (N, K); mask (N, K), True = known: an image's known positives count, and one without any known entry
    does not. 1 where nothing is known. Raises ValueError for known targets other than 0 and 1.
    """
    held, counts = as_held(targets), []
    for rows in row_slices(*held.shape):
        known = known_entries(held[rows], None if mask is None else mask[rows])
        counts.append(binary("targets", held[rows], known, rows.start).sum(1)[known.any(1)])
    return covering_count(np.concatenate(counts), share)


def covering_count(counts: NDArray[Any], share: float = 0.99) -> int:
    """Return the smallest n that is no less than a `share` of label counts (N,), at least 1; 1 where there are none."""
    ordered = np.sort(counts)
    return max(1, int(ordered[int(np.ceil(share * len(ordered))) - 1])) if len(ordered) else 1


class ThresholdEstimation(MovedThresholds):
    """Threshold estimation (eqn 15): label k is in iff f_k(x) > theta_k(x), the K outputs of the head.

    Trained by eqn 16 with its missing brackets: binary cross entropy of sigmoid(f_k(x) - theta_k(x)), summed
    over the labels, averaged over the images.

    offset: what is added to the thresholds, see `MovedThresholds`: "none", the paper's; "class" or "one", chosen by the
    criterion on images that the head was not trained on, for which it is trained without each fifth of them too.
    """

    def __init__(
        self,
        num_features: int,
        num_labels: int,
        hidden: Sequence[int] = (100, 10),
        *,
        standardize: bool = True,
        criterion: str = "f1",
        beta: float = 1.0,
        miss_cost: float = 1.0,
        offset: Offset = "none",
        fit_on: FitOn = "train",
    ) -> None:
        goal: dict[str, Any] = {"criterion": criterion, "beta": beta, "miss_cost": miss_cost}
        super().__init__(num_features, num_labels, hidden, standardize, fit_on, **goal, offset=offset)
        if offset == "none":  # saved as it was before there were offsets
            self.register_buffer("offsets", self.offsets, persistent=False)

    def choices(self) -> dict[str, Any]:
        return {} if self.offset == "none" else {"offset": self.offsets.tolist()}

    def loss_of(self, outputs: Tensor, scores: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute eqn 16 over the known entries, differentiable in scores and outputs, the thresholds."""
        logits = scores.to(outputs.dtype) - outputs
        losses = F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none")
        return (losses if mask is None else losses * mask).sum() / max(len(scores), 1)

    def slopes(
        self, outputs: Tensor, scores: Tensor, targets: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if type(self).loss_of is not ThresholdEstimation.loss_of:
            return super().slopes(outputs, scores, targets, mask)
        loss, of = self.loss_of(outputs, scores, targets, mask), scores.to(outputs.dtype) - outputs
        slopes = (targets.to(of.dtype) - of.sigmoid_()).mul_(1 / max(len(scores), 1))
        return loss, slopes if mask is None else slopes.mul_(mask)

    def _constant(self, scores: Array, targets: Array, mask: Array | None) -> Tensor:
        return torch.full((self.num_labels,), middle_threshold(scores, targets, mask))


class ThresholdClass(LearntThresholds):
    """Names the labels with f_k(x) > theta(x), a learnt threshold an image, by ATLOP's adaptive thresholding loss.

    With TH a class whose score is theta(x), P the positives and N the negatives of an image (Zhou et al.,
    AAAI 2021): loss = - sum_{u in P} log( exp f_u / sum_{j in P + TH} exp f_j ) - log( exp theta / sum_{j in
    N + TH} exp f_j ). The scores are given; only the head that estimates theta from the features learns.
    """

    def __init__(
        self,
        num_features: int,
        num_labels: int,
        hidden: Sequence[int] = (100, 10),
        *,
        standardize: bool = True,
        fit_on: FitOn = "train",
    ) -> None:
        super().__init__(num_features, num_labels, 1, hidden, standardize, fit_on)

    def loss_of(self, outputs: Tensor, scores: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the adaptive thresholding loss over the known entries, averaged over the images."""
        scores, positive = scores.to(outputs.dtype), targets != 0
        negative = ~positive
        if mask is not None:
            positive, negative = positive & mask, negative & mask
        above = _logsumexp_with(outputs, scores, positive)
        pulled = (above * positive.sum(1)) - (scores * positive).sum(1)
        pushed = _logsumexp_with(outputs, scores, negative) - outputs.squeeze(1)
        return (pulled + pushed).sum() / max(len(scores), 1)

    def _constant(self, scores: Array, targets: Array, mask: Array | None) -> Tensor:
        return torch.full((1,), middle_threshold(scores, targets, mask))


def _logsumexp_with(theta: Tensor, scores: Tensor, members: Tensor) -> Tensor:
    """Compute log( exp theta + sum over the members of exp f_j ), (N,)."""
    return torch.cat([theta, scores.masked_fill(~members, -torch.inf)], 1).logsumexp(1)
