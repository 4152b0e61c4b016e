"""One binary decision a label: cross entropy, focal loss and asymmetric loss, summed over the labels of a row."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from lsep_ml.losses.kernels.class_counts import ClassCounts, PosWeight, positive_weights
from lsep_ml.losses.kernels.fused import rowwise
from lsep_ml.losses.kernels.inputs import Reduction, check_inputs, reduce
from lsep_ml.losses.kernels.labels import LabelIndices, known_targets, labels_of
from lsep_ml.losses.kernels.sums import power, sum_of_terms
from lsep_ml.losses.kernels.values import check_targets
from lsep_ml.losses.properties import half, takes_soft_targets

__all__ = ["asl_loss", "bce_loss", "focal_loss"]


@takes_soft_targets(half)
def bce_loss(
    scores: Tensor,
    targets: Tensor | LabelIndices,
    *,
    reduction: Reduction = "mean",
    mask: Tensor | None = None,
    normalize: bool = False,
    pos_weight: PosWeight = None,
    pos_weight_cap: float = 20.0,
    class_counts: ClassCounts | None = None,
) -> Tensor:
    r"""Compute the binary cross entropy of each row of `scores`: - sum_u log s(f_u) - sum_v log(1 - s(f_v)).

    s is the sigmoid, u runs over the known positives of a row and v over its known negatives.

    Args:
        scores: f, floating point (N, K); half precision is computed, and the loss returned, in float32.
        targets: 0/1 of any dtype (N, K), or LabelIndices; or soft ones, floating point in [0, 1]: an entry y then adds
            - y log s(f) - (1 - y) log(1 - s(f)).
        reduction: "mean" over the N rows, "sum" or "none" (N,).
        mask: bool (N, K), True where the target is known; an unknown entry enters no sum.
        normalize: divide by the row's number of known labels; with the mean over rows that is
            torch.nn.functional.binary_cross_entropy_with_logits.
        pos_weight: weights of the labels' positive terms: K numbers above 0; "balanced", negatives over positives in
            the class counts; or "tempered", the square root of that. None: no weights.
        pos_weight_cap: the largest weight that "balanced" and "tempered" give, >= 1.
        class_counts: of the training data, for "balanced" and "tempered"; a run fills them in.

    Raises:
        ValueError: wrong shapes, dtypes, targets or weights.

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
    weights = positive_weights(f, pos_weight, pos_weight_cap, class_counts)
    if isinstance(targets, LabelIndices):
        losses = _sparse_cross_entropies(f, targets, mask, weights)
    else:
        known = None if mask is None else mask.to(f.dtype)
        targets = known_targets(targets, mask)
        check_targets(targets, soft=True)
        losses = F.binary_cross_entropy_with_logits(
            f, targets.to(f.dtype), known, reduction="none", pos_weight=weights
        ).sum(1)
    if normalize:
        losses = losses / (f.shape[1] if mask is None else mask.sum(1).clamp(min=1))
    return reduce(losses, reduction)


def _sparse_cross_entropies(
    scores: Tensor, targets: LabelIndices, mask: Tensor | None, weights: Tensor | None
) -> Tensor:
    """Compute - sum_u w_u log s(f_u) - sum_v log(1 - s(f_v)) of every row (N,); gradient s(f_v), and - s(-f_u) where w
    is 1."""

    def formula(f: Tensor) -> Tensor:
        return sum_of_terms(
            f, targets, mask, lambda f_u: -F.logsigmoid(f_u), lambda f_v: -F.logsigmoid(-f_v), weights
        )

    if weights is not None:
        return formula(scores)
    labels = labels_of(targets, mask, scores.dtype)

    def with_gradient(f: Tensor) -> tuple[Tensor, Tensor]:
        f_u, f_v = labels.positives(f), labels.negatives(f)
        values = f_v.clamp(min=0).sum(1) + f_v.abs().neg_().exp_().log1p_().sum(1) - F.logsigmoid(f_u).sum(1)
        return values, labels.subtract_at_positives(f_v.sigmoid_(), torch.sigmoid(-f_u))

    return rowwise(scores, formula, with_gradient)


def focal_loss(
    scores: Tensor,
    targets: Tensor | LabelIndices,
    *,
    reduction: Reduction = "mean",
    mask: Tensor | None = None,
    gamma: float = 2.0,
    alpha: float | None = 0.25,
    pos_weight: PosWeight = None,
    pos_weight_cap: float = 20.0,
    class_counts: ClassCounts | None = None,
) -> Tensor:
    r"""Compute the focal loss (Lin et al. 2017) of each row of `scores`, with p = sigmoid(f):

        - sum_u alpha (1 - p_u)^gamma log p_u - sum_v (1 - alpha) p_v^gamma log(1 - p_v)

    Args:
        scores, targets, reduction, mask: as in `bce_loss`; targets are 0 or 1.
        pos_weight, pos_weight_cap, class_counts: as in `bce_loss`.
        gamma: focus on labels that are far from right, >= 0; 0 is binary cross entropy, weighted.
        alpha: weight of the positives, in [0, 1]; None weighs neither side.

    Raises:
        ValueError: wrong shapes, dtypes, targets or weights; gamma or alpha out of range.

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
    weights = positive_weights(f, pos_weight, pos_weight_cap, class_counts)
    weight_u, weight_v = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)

    def term(logits: Tensor) -> Tensor:
        """Compute - (1 - p)^gamma log p."""
        return -power(torch.sigmoid(-logits), gamma) * F.logsigmoid(logits)

    losses = sum_of_terms(
        f, targets, mask, lambda f_u: weight_u * term(f_u), lambda f_v: weight_v * term(-f_v), weights
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
    pos_weight: PosWeight = None,
    pos_weight_cap: float = 20.0,
    class_counts: ClassCounts | None = None,
) -> Tensor:
    r"""Compute the asymmetric loss (Ridnik et al. 2021) of each row of `scores`, with p = sigmoid(f):

        - sum_u (1 - p_u)^g+ log p_u - sum_v q_v^g- log(1 - q_v)

    q = max(p - m, 0) is the shifted probability: negatives below m are free. The defaults are the paper's; the gradient
    is that of the whole formula (the authors' code holds the focusing factors constant).

    Args:
        scores, targets, reduction, mask: as in `bce_loss`; targets are 0 or 1.
        pos_weight, pos_weight_cap, class_counts: as in `bce_loss`.
        gamma_positive, gamma_negative: g+ and g-, the focus on positives and on negatives, >= 0.
        shift: m, in [0, 1).

    Raises:
        ValueError: wrong shapes, dtypes, targets or weights; a gamma or the shift out of range.

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
    weights = positive_weights(f, pos_weight, pos_weight_cap, class_counts)
    log_shift = f.new_tensor(math.log(shift) if shift > 0 else -math.inf)

    def positive_term(f_u: Tensor) -> Tensor:
        return -power(torch.sigmoid(-f_u), gamma_positive) * F.logsigmoid(f_u)

    def negative_term(f_v: Tensor) -> Tensor:
        # log(1 - q) = min(0, log(1 - p + m)), without forming 1 - p
        log_rest = torch.logaddexp(F.logsigmoid(-f_v), log_shift).clamp(max=0)
        return -power((torch.sigmoid(f_v) - shift).clamp(min=0), gamma_negative) * log_rest

    return reduce(sum_of_terms(f, targets, mask, positive_term, negative_term, weights), reduction)
