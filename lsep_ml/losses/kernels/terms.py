"""Sums of terms over the labels of a row, one kind for its positives and one for its negatives."""

from collections.abc import Callable

import torch
from torch import Tensor

from lsep_ml.losses.kernels.labels import LabelIndices, labels_of

Term = Callable[[Tensor], Tensor]
"""Scores -> what each contributes; 0 where a score lies far on the right side."""


def sum_of_terms(
    scores: Tensor,
    targets: Tensor | LabelIndices,
    mask: Tensor | None,
    of_positive: Term,
    of_negative: Term,
    weights: Tensor | None = None,
) -> Tensor:
    """Compute sum_u w_u of_positive(f_u) + sum_v of_negative(f_v) of every row (N,); weights: w (K,), or None for 1."""
    labels = labels_of(targets, mask, scores.dtype)
    positive = of_positive(labels.positives(scores))
    if weights is not None:
        positive = positive * labels.of_positives(weights)
    return positive.sum(1) + of_negative(labels.negatives(scores)).sum(1)


def power(base: Tensor, exponent: float) -> Tensor:
    """Compute base^exponent, base >= 0, with a finite slope at 0 where the exponent is below 1."""
    return base.clamp(min=torch.finfo(base.dtype).tiny).pow(exponent)
