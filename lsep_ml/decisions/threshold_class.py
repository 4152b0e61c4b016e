"""One learnt threshold for each image: a threshold class beside the labels."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lsep_ml.decisions.base import FitOn
from lsep_ml.decisions.checks import Array
from lsep_ml.decisions.learnt import LearntThresholds, middle_threshold


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
