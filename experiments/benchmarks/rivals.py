"""What the losses are compared with: the same equations over all pairs, as public code has them."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def lsep_over_pairs(scores: Tensor, targets: Tensor) -> Tensor:
    """Eqn 7 over every difference of two scores, N K K numbers; targets 0/1 like the scores."""
    exponents = _differences(scores).masked_fill(_pairs(targets) == 0, -math.inf).flatten(1).logsumexp(1)
    return torch.logaddexp(exponents, torch.zeros_like(exponents)).mean()


def ranking_over_pairs(scores: Tensor, targets: Tensor) -> Tensor:
    """Eqn 6 over every difference of two scores, N K K numbers; targets 0/1 like the scores."""
    return (F.relu(1 + _differences(scores)) * _pairs(targets)).sum((1, 2)).mean()


def _differences(scores: Tensor) -> Tensor:
    """f_v - f_u at (row, u, v)."""
    return scores[:, None, :] - scores[:, :, None]


def _pairs(targets: Tensor) -> Tensor:
    """1 at (row, u, v) where u is a positive and v is not."""
    return targets[:, :, None] * (1 - targets[:, None, :])
