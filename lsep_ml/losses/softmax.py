"""The softmax loss over label sets (eqn 29)."""

from torch import Tensor

from lsep_ml.losses.kernels.fused import rowwise
from lsep_ml.losses.kernels.inputs import Reduction, check_inputs, reduce
from lsep_ml.losses.kernels.labels import LabelIndices, Labels, labels_of
from lsep_ml.losses.kernels.sums import LOG2_E, log_sum_exp
from lsep_ml.losses.properties import shift_invariant, spread, takes_soft_targets

__all__ = ["softmax_loss"]


@takes_soft_targets(spread)
@shift_invariant
def softmax_loss(
    scores: Tensor,
    targets: Tensor | LabelIndices,
    *,
    reduction: Reduction = "mean",
    mask: Tensor | None = None,
    normalize: bool = False,
) -> Tensor:
    r"""Compute the softmax cross entropy of each row of `scores`: - sum_u log(exp f_u / sum_j exp f_j) (eqn 29).

    u runs over the known positives of a row and j over its known labels; the minus, which eqn 29 lacks, is restored.

    Args:
        scores: f, floating point (N, K); half precision is computed, and the loss returned, in float32.
        targets: 0/1 of any dtype (N, K), or LabelIndices; or soft ones y, floating point in [0, 1], the weights of the
            terms; |Y| is then their sum.
        reduction: "mean" over the N rows, "sum" or "none" (N,).
        mask: bool (N, K), True where the target is known; an unknown entry enters neither sum.
        normalize: divide by |Y|, as Gong et al. (2014) do (where it is above 1: soft ones may sum to less).

    A row without a known positive has loss 0 and gradient 0.

    Raises:
        ValueError: wrong shapes, dtypes or targets.

    Example:
        >>> import torch
        >>> from lsep_ml.losses import softmax_loss
        >>> scores, targets = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1, 0, 0]])
        >>> softmax_loss(scores, targets)  # log(e^2 + e^1 + e^0) - 2
        tensor(0.4076)
    """
    f = check_inputs(scores, targets, mask)
    labels = labels_of(targets, mask, f.dtype, soft=True)
    losses = _cross_entropies(f, labels)
    return reduce(losses / labels.num_positives().clamp(min=1) if normalize else losses, reduction)


def _cross_entropies(scores: Tensor, labels: Labels) -> Tensor:
    """Compute |Y| logsumexp_j(f_j) - sum_u f_u of every row (N,), from the largest score on; gradient |Y| softmax(f) -
    y."""

    def formula(f: Tensor) -> Tensor:
        largest, over_known = log_sum_exp(labels.known(f))
        return labels.num_positives() * over_known - labels.sum_of_positives(f - largest[:, None])

    def with_gradient(f: Tensor) -> tuple[Tensor, Tensor]:
        known = labels.known(f)
        shifted = known - known.amax(1, keepdim=True)
        over_positives = labels.sum_of_positives(shifted)
        e = shifted.mul_(LOG2_E).exp2_()
        sums, counts = e.sum(1), labels.num_positives()
        values = counts * sums.log() - over_positives
        return values, labels.subtract_at_positives(e.mul_((counts / sums)[:, None]), labels.positive)

    return rowwise(scores, formula, with_gradient)
