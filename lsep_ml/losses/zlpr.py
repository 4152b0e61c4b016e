"""Zero-bounded log-sum-exp pairwise rank-based loss (ZLPR)."""

from torch import Tensor

from lsep_ml.losses.inputs import Reduction, check, reduce
from lsep_ml.losses.labels import LabelIndices, labels_of
from lsep_ml.losses.logsumexp import log_sum_exp, softplus


def zlpr_loss(
    scores: Tensor,
    targets: Tensor | LabelIndices,
    *,
    reduction: Reduction = "mean",
    mask: Tensor | None = None,
) -> Tensor:
    r"""ZLPR (Su et al. 2022): log(1 + sum_v exp f_v) + log(1 + sum_u exp(-f_u)).

    LSEP with one more label whose score is always 0, to be ranked below the positives and above the negatives, and
    without the pairs between these: labels with a score above 0 are predicted.

    Args:
        scores: f, floating point (N, K); half precision is computed, and the loss returned, in float32.
        targets: 0/1 of any dtype (N, K), or LabelIndices.
        reduction: "mean" over the N rows, "sum" or "none" (N,).
        mask: bool (N, K), True where the target is known; an unknown entry enters no sum.

    Raises:
        ValueError: wrong shapes or dtypes.
    """
    f = check(scores, targets, mask)
    labels = labels_of(targets, mask, f.dtype)
    return reduce(_log1p_sum_exp(labels.negatives(f)) + _log1p_sum_exp(-labels.positives(f)), reduction)


def _log1p_sum_exp(scores: Tensor) -> Tensor:
    largest, remainder = log_sum_exp(scores)
    return softplus(largest + remainder)
