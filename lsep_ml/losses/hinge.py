"""Pair losses of hinges, ranking (eqn 6) and WARP (eqn 11): no pair is ever formed.

The hinge of a pair (u, v) is max(0, f_v - b_u), b_u = f_u - a, and the pair violates the margin a when f_v > b_u. The
sum of the hinges is piecewise linear in the scores. With the weight w of a positive's hinges (ranking: 1), c_v the sum
of the weights of the positives that v violates, and c_u the weight of u times the number of negatives that violate it,

    sum_u w_u sum_v max(0, f_v - b_u) = sum_v c_v f_v - sum_u c_u b_u,

and c_v and -c_u are the gradient.
"""

import torch
from torch import Tensor

from lsep_ml.losses.fused import plain_eager
from lsep_ml.losses.inputs import Reduction, check, reduce
from lsep_ml.losses.labels import LabelIndices, labels_of
from lsep_ml.losses.violations import Weight, harmonic, uniform, violations


def ranking_loss(
    scores: Tensor,
    targets: Tensor | LabelIndices,
    *,
    reduction: Reduction = "mean",
    mask: Tensor | None = None,
    margin: float = 1.0,
) -> Tensor:
    r"""Pairwise hinge loss: sum_u sum_v max(0, a + f_v - f_u) (eqn 6), a = `margin`, exact.

    Args:
        scores: f, floating point (N, K); half precision is computed, and the loss returned, in float32.
        targets: 0/1 of any dtype (N, K), or LabelIndices.
        reduction: "mean" over the N rows (rows without a pair count), "sum" or "none" (N,).
        mask: bool (N, K), True where the target is known; an unknown entry enters no pair.
        margin: a.

    A row without a known positive or without a known negative has loss 0 and gradient 0.

    Raises:
        ValueError: wrong shapes or dtypes.
    """
    return reduce(_hinges(scores, targets, mask, margin, uniform), reduction)


def warp_loss(
    scores: Tensor,
    targets: Tensor | LabelIndices,
    *,
    reduction: Reduction = "mean",
    mask: Tensor | None = None,
    margin: float = 1.0,
) -> Tensor:
    r"""WARP: sum_u w(r_u) sum_v max(0, a + f_v - f_u) (eqn 11), w(r) = 1 + 1/2 + ... + 1/r, exact.

    r_u is the margin-penalised rank, the number of negatives with a + f_v - f_u > 0; a positive without one has no
    term. The weight is constant in the gradient.

    Args:
        scores, targets, reduction, mask, margin: as in `ranking_loss`.

    Raises:
        ValueError: wrong shapes or dtypes.
    """
    return reduce(_hinges(scores, targets, mask, margin, harmonic), reduction)


def _hinges(
    scores: Tensor, targets: Tensor | LabelIndices, mask: Tensor | None, margin: float, weight: Weight
) -> Tensor:
    """sum_u w_u sum_v max(0, a + f_v - f_u) of every row (N,)."""
    f = check(scores, targets, mask)
    if plain_eager() and f.device.type == "cpu" and not isinstance(targets, LabelIndices):
        targets = LabelIndices.of(targets)  # where looking for the few positives makes nothing wait
    labels = labels_of(targets, mask, f.dtype)
    with torch.no_grad():
        bounds = labels.positives(f) - margin
        by_negative, by_positive = violations(labels.negatives(f), bounds, weight)
        # Measured from the lowest bound, all terms are the size of a hinge, whatever the size of the scores.
        origin = bounds.amin(1, keepdim=True)
        at_margin = margin * by_positive.sum(1)
        gradient = labels.add_to_positives(by_negative, -by_positive)
    return (gradient * (f - origin)).sum(1) + at_margin
