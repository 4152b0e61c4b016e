"""Top-k pairwise ranking: the positives against the labels that stand highest."""

import torch
from torch import Tensor

from lsep_ml.losses.kernels.fused import rowwise
from lsep_ml.losses.kernels.inputs import Reduction, check_inputs, reduce
from lsep_ml.losses.kernels.labels import LabelIndices, Labels, labels_of
from lsep_ml.losses.kernels.sums import softplus
from lsep_ml.losses.properties import shift_invariant

__all__ = ["tkpr_loss"]


@shift_invariant
def tkpr_loss(
    scores: Tensor,
    targets: Tensor | LabelIndices,
    *,
    reduction: Reduction = "mean",
    mask: Tensor | None = None,
    top_k: int = 5,
    normalize: bool = False,
) -> Tensor:
    r"""Compute top-k pairwise ranking (TKPR) of each row of `scores`: sum_u sum_{i <= k} log(1 + exp(f_[i] - f_u)).

    f_[1] >= f_[2] >= ... are the scores of the row's known labels, of positives and negatives alike, in descending
    order; of equal ones the lower label is first. It is the logistic surrogate of the measure of Wang et al., "Top-K
    Pairwise Ranking: Bridging the Gap Among Ranking-Based Measures for Multi-Label Classification" (2024), convex in
    the scores. Time is that of a sort, and linear in k |Y|.

    Args:
        scores: f, floating point (N, K); half precision is computed, and the loss returned, in float32.
        targets: 0/1 of any dtype (N, K), or LabelIndices.
        reduction: "mean" over the N rows, "sum" or "none" (N,).
        mask: bool (N, K), True where the target is known; an unknown entry enters no sum.
        top_k: k, at least 1; rows with fewer known labels have them all.
        normalize: divide by k |Y|, as the measure does.

    A row without a known positive has loss 0 and gradient 0.

    Raises:
        ValueError: wrong shapes, dtypes or targets; top_k below 1.

    Example:
        >>> import torch
        >>> from lsep_ml.losses import tkpr_loss
        >>> scores, targets = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[0, 1, 0]])
        >>> tkpr_loss(scores, targets, top_k=1)  # log(1 + e)
        tensor(1.3133)
        >>> tkpr_loss(scores, targets, top_k=2)  # log(1 + e) + log 2, which the positive itself adds
        tensor(2.0064)
    """
    if top_k < 1:
        raise ValueError(f"top_k={top_k}: expected at least 1")
    f = check_inputs(scores, targets, mask)
    labels = labels_of(targets, mask, f.dtype)
    losses = _over_top(f, labels, min(top_k, f.shape[1]))
    if normalize:
        losses = losses / (top_k * labels.num_positives().clamp(min=1))
    return reduce(losses, reduction)


def _over_top(scores: Tensor, labels: Labels, top_k: int) -> Tensor:
    """Compute sum_u sum_{i <= k} log(1 + exp(f_[i] - f_u)) of every row (N,)."""
    highest = labels.known(scores.detach()).sort(dim=1, descending=True, stable=True).indices[:, :top_k]

    def formula(f: Tensor) -> Tensor:
        top = labels.known(f).gather(1, highest)
        return softplus(top[:, :, None] - labels.positives(f)[:, None, :]).sum((1, 2))

    def with_gradient(f: Tensor) -> tuple[Tensor, Tensor]:
        positives, top = labels.positives(f), labels.known(f).gather(1, highest)
        by_positive, by_top = torch.zeros_like(positives), torch.empty_like(top)
        values = torch.zeros_like(f[:, 0])
        for f_i, slope in zip(top.split(1, 1), by_top.split(1, 1), strict=True):
            z = f_i - positives
            values += softplus(z).sum(1)
            slopes = z.sigmoid_()
            by_positive += slopes
            torch.sum(slopes, dim=1, keepdim=True, out=slope)
        gradient = torch.zeros_like(f).scatter_(1, highest, by_top)
        return values, labels.subtract_at_positives(gradient, by_positive)

    return rowwise(scores, formula, with_gradient)
