"""Pair losses of hinges, ranking (eqn 6) and WARP (eqn 11), by sorting: no pair is ever formed.

A pair (u, v) violates the margin a when f_v > f_u - a. With c_u the number of negatives that violate positive u and c_v
the number of positives that negative v violates, the sum of hinges is

    sum_u sum_v max(0, a + f_v - f_u) = sum_v c_v f_v - sum_u c_u f_u + a sum_u c_u,

and the counts are its gradient. A sort of each row's negatives and of its positives gives them by binary search.
"""

import math

import torch
from torch import Tensor

from lsep_ml.losses.inputs import Reduction, Rows, check, reduce


def ranking_loss(
    scores: Tensor,
    targets: Tensor,
    *,
    reduction: Reduction = "mean",
    mask: Tensor | None = None,
    margin: float = 1.0,
) -> Tensor:
    r"""Pairwise hinge loss: sum_u sum_v max(0, a + f_v - f_u) (eqn 6), a = `margin`, exact.

    Args:
        scores: f, floating point (N, K); half precision is computed, and the loss returned, in float32.
        targets: 0/1 of any dtype (N, K).
        reduction: "mean" over the N rows (rows without a pair count), "sum" or "none" (N,).
        mask: bool (N, K), True where the target is known; an unknown entry enters no pair.
        margin: a.

    A row without a known positive or without a known negative has loss 0 and gradient 0.

    Raises:
        ValueError: wrong shapes or dtypes.
    """
    rows = check(scores, targets, mask)
    with torch.no_grad():
        by_positive, by_negative = _violations(rows, margin)
        counts = by_positive.where(rows.positive, 0), by_negative.where(rows.negative, 0)
    return reduce(_linear_form(rows, *counts, margin), reduction)


def warp_loss(
    scores: Tensor,
    targets: Tensor,
    *,
    reduction: Reduction = "mean",
    mask: Tensor | None = None,
    margin: float = 1.0,
) -> Tensor:
    r"""WARP: sum_u w(r_u) sum_v max(0, a + f_v - f_u) (eqn 11), w(r) = 1 + 1/2 + ... + 1/r, exact.

    r_u is the margin-penalised rank, the number of negatives with a + f_v - f_u > 0; a positive without one has no
    term. The weight is constant in the gradient. (WSABIE estimates w(r)/r times the hinges by sampling, another scale.)

    Args:
        scores, targets, reduction, mask, margin: as in `ranking_loss`.

    Raises:
        ValueError: wrong shapes or dtypes.
    """
    rows = check(scores, targets, mask)
    with torch.no_grad():
        ranks, _ = _violations(rows, margin)
        weights = _harmonic_numbers(rows.scores)[ranks].where(rows.positive, 0)
        by_negative = _weight_violated(rows, margin, weights)
        counts = weights * ranks, by_negative.where(rows.negative, 0)
    return reduce(_linear_form(rows, *counts, margin), reduction)


def _violations(rows: Rows, margin: float) -> tuple[Tensor, Tensor]:
    """c_u at every entry as if it were a positive, c_v at every entry as if it were a negative, int64 (N, K)."""
    bounds = rows.scores - margin
    negatives = rows.scores.masked_fill(~rows.negative, -math.inf).sort(1).values
    positives = bounds.masked_fill(~rows.positive, math.inf).sort(1).values
    above = negatives.shape[1] - torch.searchsorted(negatives, bounds.contiguous(), right=True)
    below = torch.searchsorted(positives, rows.scores.contiguous())
    return above, below


def _weight_violated(rows: Rows, margin: float, weights: Tensor) -> Tensor:
    """The sum of the weights of the positives that each entry, as a negative, violates."""
    positives, order = (rows.scores - margin).masked_fill(~rows.positive, math.inf).sort(1)
    sums = torch.nn.functional.pad(weights.gather(1, order).cumsum(1), (1, 0))
    return sums.gather(1, torch.searchsorted(positives, rows.scores.contiguous()))


def _harmonic_numbers(scores: Tensor) -> Tensor:
    """w(0), ..., w(K) in the dtype of the scores."""
    ranks = torch.arange(1, scores.shape[1] + 1, dtype=torch.float64, device=scores.device)
    return torch.nn.functional.pad(ranks.reciprocal().cumsum(0), (1, 0)).to(scores.dtype)


def _linear_form(rows: Rows, by_positive: Tensor, by_negative: Tensor, margin: float) -> Tensor:
    """sum_v c_v f_v - sum_u c_u f_u + a sum_u c_u for each row, (N,)."""
    # The form does not change with a shift of the row, but its rounding does: centre it on the labels.
    known = rows.positive | rows.negative
    centre = (rows.scores.detach() * known).sum(1, keepdim=True) / known.sum(1, keepdim=True).clamp(min=1)
    return ((by_negative - by_positive) * (rows.scores - centre) + margin * by_positive).sum(1)
