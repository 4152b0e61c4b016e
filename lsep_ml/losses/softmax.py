"""The softmax loss over label sets (eqn 29)."""

import math

import torch
from torch import Tensor

from lsep_ml.losses.inputs import Reduction, check, reduce


def softmax_loss(
    scores: Tensor,
    targets: Tensor,
    *,
    reduction: Reduction = "mean",
    mask: Tensor | None = None,
    normalize: bool = False,
) -> Tensor:
    r"""Softmax cross entropy over the positives: - sum_u log(exp f_u / sum_j exp f_j) (eqn 29, its minus restored).

    Args:
        scores: f, floating point (N, K); half precision is computed, and the loss returned, in float32.
        targets: 0/1 of any dtype (N, K).
        reduction: "mean" over the N rows, "sum" or "none" (N,).
        mask: bool (N, K), True where the target is known; an unknown entry enters neither sum.
        normalize: divide by |Y|, as Gong et al. (2014) do.

    A row without a known positive has loss 0 and gradient 0.

    Raises:
        ValueError: wrong shapes or dtypes.
    """
    rows = check(scores, targets, mask)
    counts = rows.positive.sum(1)
    known = (rows.positive | rows.negative) & (counts > 0)[:, None]
    every = torch.where((counts > 0)[:, None], rows.scores.masked_fill(~known, -math.inf), 0).logsumexp(1)
    losses = ((every[:, None] - rows.scores) * rows.positive).sum(1)
    return reduce(losses / counts.clamp(min=1) if normalize else losses, reduction)
