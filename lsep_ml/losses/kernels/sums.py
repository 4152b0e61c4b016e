"""Sums over the labels of each row: log-sum-exps, kept as maximum and remainder, and sums of terms."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from lsep_ml.losses.kernels.labels import LabelIndices, labels_of

LOG2_E = math.log2(math.e)

Term = Callable[[Tensor], Tensor]
"""Scores -> what each contributes; 0 where a score lies far on the right side."""


def log_sum_exp(scores: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Compute m = max_j x_j, without gradient, and T log sum_j exp((x_j - m) / T) of each row x of `scores`, both (N,).

    Their sum is the row's log-sum-exp at the temperature T. They stay apart so that a difference of two of them keeps
    its digits when the scores are large.
    """
    largest = scores.detach().amax(1, keepdim=True)
    # exp(x) = 2^(x log2 e): exp itself can be ten times slower where it underflows, as here it mostly does.
    sums = ((scores - largest) * (LOG2_E / temperature)).exp2().sum(1)
    return largest.squeeze(1), temperature * sums.log()


def shifted_exp_(scores: Tensor, temperature: float = 1.0, *, negated: bool = False) -> tuple[Tensor, Tensor]:
    """Compute m (N,) as `log_sum_exp` does, and write exp((x - m) / T), T = `temperature`, over `scores` (N, K).

    negated: x is -`scores`, which then need not be written.
    """
    nearest = scores.amin(1, keepdim=True) if negated else scores.amax(1, keepdim=True)
    scale = LOG2_E / temperature
    exponentials = scores.sub_(nearest).mul_(-scale if negated else scale).exp2_()
    return (-nearest if negated else nearest).squeeze(1), exponentials


def softplus(x: Tensor) -> Tensor:
    """Compute log(1 + exp x) with finite derivatives of every order, for any `x`.

    torch's softplus becomes the identity at 20; logaddexp(x, 0) has no second derivative below -709 (float32: -44).
    """
    return -F.logsigmoid(-x)


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
