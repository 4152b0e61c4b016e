"""What the losses are compared with: the same equations over all pairs, and torch's own losses."""

import torch
from torch import Tensor
from torch.nn import functional as F


def bce(scores: Tensor, targets: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(scores, targets)


def lsep_over_pairs(scores: Tensor, targets: Tensor) -> Tensor:
    """Eqn 7 as the public code has it: every difference of two scores, N K K numbers."""
    differences = scores[:, None, :] - scores[:, :, None]
    pairs = targets[:, :, None] * (1 - targets[:, None, :])
    exponents = differences.masked_fill(pairs == 0, -torch.inf).flatten(1).logsumexp(1)
    return F.softplus(exponents).mean()


def ranking_over_pairs(scores: Tensor, targets: Tensor) -> Tensor:
    """Eqn 6 over N K K numbers."""
    differences = scores[:, None, :] - scores[:, :, None]
    pairs = targets[:, :, None] * (1 - targets[:, None, :])
    return ((1 + differences).clamp(min=0) * pairs).sum((1, 2)).mean()


def multilabel_margin(scores: Tensor, indices: Tensor) -> Tensor:
    """Eqn 6 divided by K, looped over positives and negatives in C++; it takes indices padded with -1 to (N, K)."""
    return F.multilabel_margin_loss(scores, indices)
