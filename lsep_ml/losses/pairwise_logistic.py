"""The pairwise logistic loss, the one pair loss here that does not factor: its time grows with |Y| K."""

import torch
from torch import Tensor

from lsep_ml.losses.kernels.fused import plain_eager, rowwise
from lsep_ml.losses.kernels.inputs import Reduction, check_inputs, reduce
from lsep_ml.losses.kernels.labels import LabelIndices, Labels, known_targets, labels_of
from lsep_ml.losses.kernels.sampling import sampled_pairs
from lsep_ml.losses.kernels.sums import softplus
from lsep_ml.losses.kernels.values import check_targets
from lsep_ml.losses.properties import shift_invariant

__all__ = ["pairwise_logistic_loss"]


@shift_invariant
def pairwise_logistic_loss(
    scores: Tensor,
    targets: Tensor | LabelIndices,
    *,
    reduction: Reduction = "mean",
    mask: Tensor | None = None,
    max_pairs: int | None = None,
    generator: torch.Generator | None = None,
    normalize: bool = False,
) -> Tensor:
    r"""Compute the pairwise logistic loss of each row of `scores`: sum_u sum_v log(1 + exp(f_v - f_u)).

    It is that of RankNet (Burges et al. 2005), u a known positive of the row and v a known negative. Memory is linear
    in K: the positives are taken one after the other, each against all negatives. (Under torch.compile, in the
    transforms of torch.func and in `fused(False)` it is N P K, P the width of the targets.)

    Args:
        scores: f, floating point (N, K); half precision is computed, and the loss returned, in float32.
        targets: 0/1 of any dtype (N, K), or LabelIndices.
        reduction: "mean" over the N rows (rows without a pair count), "sum" or "none" (N,).
        mask: bool (N, K), True where the target is known; an unknown entry enters no pair.
        max_pairs: at most so many pairs of a row, drawn uniformly without replacement.
        generator: of the draws, on the device of the scores; torch's own by default.
        normalize: divide by the row's number of pairs, or of pairs drawn; the sampled value is then unbiased.

    A row without a known positive or without a known negative has loss 0 and gradient 0.

    Raises:
        ValueError: wrong shapes, dtypes or targets; max_pairs below 1.

    Example:
        >>> import torch
        >>> from lsep_ml.losses import pairwise_logistic_loss
        >>> scores, targets = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1, 0, 0]])
        >>> pairwise_logistic_loss(scores, targets)  # log(1 + e^-1) + log(1 + e^-2)
        tensor(0.4402)
    """
    f = check_inputs(scores, targets, mask)
    if not isinstance(targets, LabelIndices) and plain_eager():
        targets = known_targets(targets, mask)
        check_targets(targets)
        targets = LabelIndices.of(targets)
    labels = labels_of(targets, mask, f.dtype)
    if max_pairs is None:
        losses = softplus_over_pairs(f, labels)
    else:
        losses = softplus(sampled_pairs(f, labels, max_pairs, generator)).sum(1)
    if normalize:
        num_pairs = labels.num_positives() * labels.num_negatives()
        losses = losses / num_pairs.clamp(min=1, max=max_pairs)
    return reduce(losses, reduction)


def softplus_over_pairs(scores: Tensor, labels: Labels) -> Tensor:
    """Compute sum_u sum_v log(1 + exp(f_v - f_u)) of every row (N,)."""

    def formula(f: Tensor) -> Tensor:
        return softplus(labels.negatives(f)[:, None, :] - labels.positives(f)[:, :, None]).sum((1, 2))

    def with_gradient(f: Tensor) -> tuple[Tensor, Tensor]:
        negatives, positives = labels.negatives(f), labels.positives(f)
        by_negative, by_positive = torch.zeros_like(negatives), torch.empty_like(positives)
        values = torch.zeros_like(f[:, 0])
        for f_u, slope in zip(positives.split(1, 1), by_positive.split(1, 1), strict=True):
            z = negatives - f_u
            values += softplus(z).sum(1)
            slopes = z.sigmoid_()
            by_negative += slopes
            torch.sum(slopes, dim=1, keepdim=True, out=slope)
        return values, labels.subtract_at_positives(by_negative, by_positive)

    return rowwise(scores, formula, with_gradient)
