"""Zero-bounded log-sum-exp pairwise rank-based loss (ZLPR)."""

from torch import Tensor

from lsep_ml.losses.kernels.inputs import Reduction, check_inputs, reduce
from lsep_ml.losses.kernels.labels import LabelIndices, labels_of
from lsep_ml.losses.kernels.sums import log_sum_exp, softplus
from lsep_ml.losses.properties import half, takes_soft_targets

__all__ = ["zlpr_loss"]


@takes_soft_targets(half)
def zlpr_loss(
    scores: Tensor,
    targets: Tensor | LabelIndices,
    *,
    reduction: Reduction = "mean",
    mask: Tensor | None = None,
) -> Tensor:
    r"""Compute ZLPR (Su et al. 2022) of each row of `scores`: log(1 + sum_v exp f_v) + log(1 + sum_u exp(-f_u)).

    u runs over the known positives of a row and v over its known negatives. It is LSEP with one more label whose score
    is always 0, to be ranked below the positives and above the negatives, and without the pairs between these: labels
    with a score above 0 are predicted.

    Args:
        scores: f, floating point (N, K); half precision is computed, and the loss returned, in float32.
        targets: 0/1 of any dtype (N, K), or LabelIndices; or soft ones y, floating point in [0, 1]:
            log(1 + sum_j (1 - y_j) exp f_j) + log(1 + sum_j y_j exp(-f_j)).
        reduction: "mean" over the N rows, "sum" or "none" (N,).
        mask: bool (N, K), True where the target is known; an unknown entry enters no sum.

    Raises:
        ValueError: wrong shapes, dtypes or targets.

    Example:
        >>> import torch
        >>> from lsep_ml.losses import zlpr_loss
        >>> scores, targets = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1, 0, 0]])
        >>> zlpr_loss(scores, targets)  # log(1 + e^1 + e^0) + log(1 + e^-2)
        tensor(1.6784)
    """
    f = check_inputs(scores, targets, mask)
    labels = labels_of(targets, mask, f.dtype, soft=True)
    return reduce(_log1p_sum_exp(labels.negatives(f)) + _log1p_sum_exp(-labels.positives(f)), reduction)


def _log1p_sum_exp(scores: Tensor) -> Tensor:
    largest, remainder = log_sum_exp(scores)
    return softplus(largest + remainder)
