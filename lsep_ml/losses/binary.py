"""One binary decision a label: cross entropy, focal, asymmetric and Hill loss, summed over the labels of a row."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from lsep_ml.losses.kernels.inputs import Reduction, check_inputs, reduce
from lsep_ml.losses.kernels.labels import LabelIndices, labels_of

__all__ = ["asl_loss", "bce_loss", "focal_loss", "hill_loss"]

Term = Callable[[Tensor], Tensor]
"""Scores -> what each contributes; 0 where a score lies far on the right side."""


def bce_loss(
    scores: Tensor,
    targets: Tensor | LabelIndices,
    *,
    reduction: Reduction = "mean",
    mask: Tensor | None = None,
    normalize: bool = False,
) -> Tensor:
    r"""Compute the binary cross entropy of each row of `scores`: - sum_u log s(f_u) - sum_v log(1 - s(f_v)).

    s is the sigmoid, u runs over the known positives of a row and v over its known negatives.

    Args:
        scores: f, floating point (N, K); half precision is computed, and the loss returned, in float32.
        targets: 0/1 of any dtype (N, K), or LabelIndices.
        reduction: "mean" over the N rows, "sum" or "none" (N,).
        mask: bool (N, K), True where the target is known; an unknown entry enters no sum.
        normalize: divide by the row's number of known labels; with the mean over rows that is
            torch.nn.functional.binary_cross_entropy_with_logits.

    Raises:
        ValueError: wrong shapes or dtypes.

    Example:
        >>> import torch
        >>> from lsep_ml.losses import bce_loss
        >>> scores, targets = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1, 0, 0]])
        >>> bce_loss(scores, targets)  # log(1 + e^-2) + log(1 + e) + log 2
        tensor(2.1333)
        >>> bce_loss(scores, targets, normalize=True)
        tensor(0.7111)
    """
    f = check_inputs(scores, targets, mask)
    if isinstance(targets, LabelIndices):
        losses = _sum_of_terms(
            f, targets, mask, lambda f_u: -F.logsigmoid(f_u), lambda f_v: -F.logsigmoid(-f_v)
        )
    else:
        known = None if mask is None else mask.to(f.dtype)
        losses = F.binary_cross_entropy_with_logits(f, targets.to(f.dtype), known, reduction="none").sum(1)
    if normalize:
        losses = losses / (f.shape[1] if mask is None else mask.sum(1).clamp(min=1))
    return reduce(losses, reduction)


def focal_loss(
    scores: Tensor,
    targets: Tensor | LabelIndices,
    *,
    reduction: Reduction = "mean",
    mask: Tensor | None = None,
    gamma: float = 2.0,
    alpha: float | None = 0.25,
) -> Tensor:
    r"""Compute the focal loss (Lin et al. 2017) of each row of `scores`, with p = sigmoid(f):

        - sum_u alpha (1 - p_u)^gamma log p_u - sum_v (1 - alpha) p_v^gamma log(1 - p_v)

    Args:
        scores, targets, reduction, mask: as in `bce_loss`.
        gamma: focus on labels that are far from right, >= 0; 0 is binary cross entropy, weighted.
        alpha: weight of the positives, in [0, 1]; None weighs neither side.

    Raises:
        ValueError: wrong shapes or dtypes; gamma or alpha out of range.

    Example:
        >>> import torch
        >>> from lsep_ml.losses import focal_loss
        >>> scores, targets = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1, 0, 0]])
        >>> focal_loss(scores, targets)  # below bce_loss: what is nearly right weighs little
        tensor(0.6568)
        >>> focal_loss(scores, targets, gamma=0, alpha=None)  # bce_loss
        tensor(2.1333)
    """
    if gamma < 0:
        raise ValueError(f"gamma={gamma}: expected at least 0")
    if alpha is not None and not 0 <= alpha <= 1:
        raise ValueError(f"alpha={alpha}: expected a number in [0, 1], or None")
    f = check_inputs(scores, targets, mask)
    weight_u, weight_v = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)

    def term(logits: Tensor) -> Tensor:
        """- (1 - p)^gamma log p."""
        return -_power(torch.sigmoid(-logits), gamma) * F.logsigmoid(logits)

    losses = _sum_of_terms(
        f, targets, mask, lambda f_u: weight_u * term(f_u), lambda f_v: weight_v * term(-f_v)
    )
    return reduce(losses, reduction)


def asl_loss(
    scores: Tensor,
    targets: Tensor | LabelIndices,
    *,
    reduction: Reduction = "mean",
    mask: Tensor | None = None,
    gamma_positive: float = 0.0,
    gamma_negative: float = 4.0,
    shift: float = 0.05,
) -> Tensor:
    r"""Compute the asymmetric loss (Ridnik et al. 2021) of each row of `scores`, with p = sigmoid(f):

        - sum_u (1 - p_u)^g+ log p_u - sum_v q_v^g- log(1 - q_v)

    q = max(p - m, 0) is the shifted probability: negatives below m are free. The defaults are the paper's; the gradient
    is that of the whole formula (the authors' code holds the focusing factors constant).

    Args:
        scores, targets, reduction, mask: as in `bce_loss`.
        gamma_positive, gamma_negative: g+ and g-, the focus on positives and on negatives, >= 0.
        shift: m, in [0, 1).

    Raises:
        ValueError: wrong shapes or dtypes; a gamma or the shift out of range.

    Example:
        >>> import torch
        >>> from lsep_ml.losses import asl_loss
        >>> scores, targets = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1, 0, 0]])
        >>> asl_loss(scores, targets)
        tensor(0.3973)
        >>> asl_loss(scores, targets, gamma_negative=0, shift=0)  # bce_loss
        tensor(2.1333)
    """
    if min(gamma_positive, gamma_negative) < 0:
        raise ValueError(
            f"gamma_positive={gamma_positive}, gamma_negative={gamma_negative}: expected at least 0"
        )
    if not 0 <= shift < 1:
        raise ValueError(f"shift={shift}: expected a number in [0, 1)")
    f = check_inputs(scores, targets, mask)
    log_shift = f.new_tensor(math.log(shift) if shift > 0 else -math.inf)

    def positive_term(f_u: Tensor) -> Tensor:
        return -_power(torch.sigmoid(-f_u), gamma_positive) * F.logsigmoid(f_u)

    def negative_term(f_v: Tensor) -> Tensor:
        # log(1 - q) = min(0, log(1 - p + m)), without forming 1 - p
        log_rest = torch.logaddexp(F.logsigmoid(-f_v), log_shift).clamp(max=0)
        return -_power((torch.sigmoid(f_v) - shift).clamp(min=0), gamma_negative) * log_rest

    return reduce(_sum_of_terms(f, targets, mask, positive_term, negative_term), reduction)


def hill_loss(
    scores: Tensor,
    targets: Tensor | LabelIndices,
    *,
    reduction: Reduction = "mean",
    mask: Tensor | None = None,
    gamma: float = 2.0,
    margin: float = 1.0,
    hill: float = 1.5,
) -> Tensor:
    r"""Compute the Hill loss (Zhang et al. 2021) of each row of `scores`, with p = sigmoid(f):

        - sum_u (1 - q_u)^gamma log q_u + sum_v (l - p_v) p_v^2,  q_u = sigmoid(f_u - m)

    From "Simple and Robust Loss Design for Multi-Label Learning with Missing Labels": a negative with a high score is
    likely to be a positive that nobody noted, so its gradient, 3 p^2 (1 - p)^2 at l = 3/2, falls again beyond p = 1/2.
    The defaults are the paper's.

    Args:
        scores, targets, reduction, mask: as in `bce_loss`.
        gamma: focus on positives that are far from right, >= 0.
        margin: m, by how much a positive's score is to exceed 0.
        hill: l, the place of the hill, >= 1, so that no term is negative.

    Raises:
        ValueError: wrong shapes or dtypes; gamma or hill out of range.

    Example:
        >>> import torch
        >>> from lsep_ml.losses import hill_loss
        >>> scores, targets = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1, 0, 0]])
        >>> hill_loss(scores, targets)
        tensor(0.6836)
    """
    if gamma < 0:
        raise ValueError(f"gamma={gamma}: expected at least 0")
    if hill < 1:
        raise ValueError(f"hill={hill}: expected at least 1")
    f = check_inputs(scores, targets, mask)

    def positive_term(f_u: Tensor) -> Tensor:
        return -_power(torch.sigmoid(margin - f_u), gamma) * F.logsigmoid(f_u - margin)

    def negative_term(f_v: Tensor) -> Tensor:
        p = torch.sigmoid(f_v)
        return (hill - p) * p.square()

    return reduce(_sum_of_terms(f, targets, mask, positive_term, negative_term), reduction)


def _sum_of_terms(
    scores: Tensor, targets: Tensor | LabelIndices, mask: Tensor | None, of_positive: Term, of_negative: Term
) -> Tensor:
    """sum_u of_positive(f_u) + sum_v of_negative(f_v) of every row (N,)."""
    labels = labels_of(targets, mask, scores.dtype)
    return of_positive(labels.positives(scores)).sum(1) + of_negative(labels.negatives(scores)).sum(1)


def _power(base: Tensor, exponent: float) -> Tensor:
    """base^exponent, base >= 0, with a finite slope at 0 where the exponent is below 1."""
    return base.clamp(min=torch.finfo(base.dtype).tiny).pow(exponent)
