"""Pair losses of exponentials, LSEP (eqn 7) and BP-MLL (eqn 12), in time and memory linear in the number of labels.

Both are functions of one number a row, the log-sum-exp over its pairs, which factors:

    sum_u sum_v exp(f_v - f_u) = (sum_v exp f_v) (sum_u exp(-f_u)),
    A = log of it = logsumexp_v(f_v) + logsumexp_u(-f_u)

over the positives u and the negatives v, so no pair is ever formed.
"""

import math

import torch
from torch import Tensor

from lsep_ml.losses.inputs import Reduction, Rows, check, reduce

BPMLL_CLAMP = 80.0
"""BP-MLL's exponent beyond which a row's loss stays at exp(80), about 5.5e34 (float32 ends at exp(88.7))."""


def lsep_loss(
    scores: Tensor, targets: Tensor, *, reduction: Reduction = "mean", mask: Tensor | None = None
) -> Tensor:
    r"""Log-sum-exp pairwise loss: log(1 + sum_u sum_v exp(f_v - f_u)) (eqn 7), exact.

    It bounds the largest violation z = f_v - f_u, max(0, max z) <= loss <= max(0, max z) + log(1 + pairs), not their
    sum as the paper's eqn 8 has it; the gradient's factor is 1 / exp(loss), not the 1 / loss printed in eqn 10.

    Args:
        scores: f, floating point (N, K); half precision is computed, and the loss returned, in float32.
        targets: 0/1 of any dtype (N, K).
        reduction: "mean" over the N rows (rows without a pair count), "sum" or "none" (N,).
        mask: bool (N, K), True where the target is known; an unknown entry enters no pair.

    A row without a known positive or without a known negative has loss 0 and gradient 0.

    Raises:
        ValueError: wrong shapes or dtypes.
    """
    exponent, has_pair = _log_sum_exp_of_pairs(check(scores, targets, mask))
    # Not softplus, which becomes the identity at 20.
    losses = torch.logaddexp(exponent, torch.zeros_like(exponent))
    return reduce(torch.where(has_pair, losses, 0), reduction)


def bpmll_loss(
    scores: Tensor,
    targets: Tensor,
    *,
    reduction: Reduction = "mean",
    mask: Tensor | None = None,
    normalize: bool = False,
) -> Tensor:
    r"""BP-MLL: sum_u sum_v exp(f_v - f_u) (eqn 12), exact up to exp(80).

    There is no outer logarithm, so the loss overflows when scores are far apart the wrong way. A row whose exponent A
    exceeds 80 has the loss exp(80) and the gradient 0, so that the other rows can go on training; count such rows with
    `bpmll_clamped_rows`.

    Args:
        scores, targets, reduction, mask: as in `lsep_loss`.
        normalize: divide by |Y| |not-Y|, the row's number of pairs, as Zhang and Zhou (2006) do.

    Raises:
        ValueError: wrong shapes or dtypes.
    """
    rows = check(scores, targets, mask)
    exponent, has_pair = _log_sum_exp_of_pairs(rows)
    losses = exponent.clamp(max=BPMLL_CLAMP).exp()
    if normalize:
        pairs = rows.positive.sum(1) * rows.negative.sum(1)
        losses = losses / pairs.clamp(min=1)
    return reduce(torch.where(has_pair, losses, 0), reduction)


def bpmll_clamped_rows(scores: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """How many rows BP-MLL's clamp holds at exp(80), an integer tensor without dimensions."""
    exponent, has_pair = _log_sum_exp_of_pairs(check(scores, targets, mask))
    return (has_pair & (exponent > BPMLL_CLAMP)).sum()


def _log_sum_exp_of_pairs(rows: Rows) -> tuple[Tensor, Tensor]:
    """A (N,), 0 where a row has no pair, and whether it has one (N,)."""
    scores, positive, negative = rows
    has_pair = positive.any(1) & negative.any(1)
    # Rows without a pair are replaced whole: a log-sum-exp over nothing would have the gradient NaN.
    some = has_pair[:, None]
    of_negatives = torch.where(some, scores.masked_fill(~negative, -math.inf), 0).logsumexp(1)
    of_positives = torch.where(some, (-scores).masked_fill(~positive, -math.inf), 0).logsumexp(1)
    return of_negatives + of_positives, has_pair
