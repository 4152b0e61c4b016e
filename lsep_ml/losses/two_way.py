"""Pairwise ranking in both directions: the labels of an image against each other, and the images of a label."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lsep_ml.losses.exponential import check_temperature, pair_exponents
from lsep_ml.losses.kernels.fused import rowwise
from lsep_ml.losses.kernels.inputs import Reduction, check_inputs, reduce
from lsep_ml.losses.kernels.labels import (
    FAR,
    DenseLabels,
    LabelIndices,
    Labels,
    dense_targets,
    labels_of,
    moderate,
)
from lsep_ml.losses.kernels.sums import LOG2_E, softplus
from lsep_ml.losses.properties import check_reduction, comparing_images

__all__ = ["two_way_loss"]


@comparing_images
def two_way_loss(
    scores: Tensor,
    targets: Tensor | LabelIndices,
    *,
    reduction: Reduction = "mean",
    mask: Tensor | None = None,
    temperature: float = 4.0,
) -> Tensor:
    r"""Compute the two-way loss (Kobayashi, CVPR 2023) of `scores`: LSEP at a temperature T over rows and over columns.

    With l(x) = log(1 + (sum_v exp x_v) (sum_u exp(-x_u / T))^T), u running over the positives of x and v over its
    negatives, it is the mean of l over the N rows, in which the labels of an image are compared, plus the mean of l
    over the K columns, in which the images of a label are. l is convex in x and does not change when a number is added
    to all of it; at T = 1 it is LSEP. No pair is formed: time and memory are linear in N K.

    The columns are those of the scores given: of a batch in training (of the micro-batch where gradients are
    accumulated, of the whole batch where processes share it), of all training images in a probe that is solved.

    Args:
        scores: f, floating point (N, K); half precision is computed, and the loss returned, in float32.
        targets: 0/1 of any dtype (N, K), or LabelIndices.
        reduction: "mean", sum over rows / N + sum over columns / K, or "sum", both sums added. "none" is refused: a
            column is no image's.
        mask: bool (N, K), True where the target is known; an unknown entry enters no pair.
        temperature: T > 0 of the positives, in both directions. The rows alone are lsep_loss(temperature=T).

    A row or column without a known positive or without a known negative adds 0 and has gradient 0; it counts in the
    mean.

    Raises:
        ValueError: wrong shapes, dtypes or targets; a temperature that is not above 0; another reduction.

    Example:
        >>> import torch
        >>> from lsep_ml.losses import two_way_loss
        >>> scores, targets = torch.tensor([[2.0, 0.0], [1.0, 0.0]]), torch.tensor([[1, 0], [0, 0]])
        >>> two_way_loss(scores, targets)  # log(1 + e^-2) / 2 + log(1 + e^-1) / 2: one row and one column have a pair
        tensor(0.2201)
    """
    check_temperature(temperature)
    f = check_inputs(scores, targets, mask)
    check_reduction(reduction)
    of_images = labels_of(targets, mask, f.dtype)
    if len(f) == 0:  # no image, no pair
        return reduce(f.sum(1), reduction)

    def formula(f: Tensor) -> Tensor:
        rows = pair_exponents(f, of_images, temperature)
        columns = pair_exponents(f.T, _of_labels(of_images, targets, mask, f.dtype), temperature)
        return (reduce(softplus(rows), reduction) + reduce(softplus(columns), reduction))[None]

    if temperature < 1 or not moderate(f):
        return formula(f).squeeze(0)
    counts = f.shape if reduction == "mean" else (1, 1)
    return rowwise(f, formula, lambda f: _of_moderate(f, of_images, temperature, counts)).squeeze(0)


def _of_moderate(
    scores: Tensor, labels: Labels, temperature: float, counts: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Compute the loss (1,) and its gradient (N, K) of scores that are `moderate`, at T >= 1: both directions sum the
    same exponentials. counts: what the sum over rows and that over columns are divided by."""
    e_v = labels.negatives(scores).mul_(LOG2_E).exp2_()
    e_u = labels.positives(scores).mul_(-LOG2_E / temperature).exp2_()
    tiny = torch.finfo(scores.dtype).tiny

    def direction(sum_v: Tensor, sum_u: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return its value, and what e_v and e_u are multiplied by in its gradient."""
        exponents = (temperature * (sum_v.pow(1 / temperature) * sum_u).log_()).clamp_(min=-FAR)
        slopes = exponents.sigmoid() / count
        return (
            softplus(exponents).sum() / count,
            slopes / sum_v.clamp(min=tiny),
            slopes / sum_u.clamp(min=tiny),
        )

    of_rows, row_v, row_u = direction(e_v.sum(1), e_u.sum(1), counts[0])
    of_columns, column_v, column_u = direction(e_v.sum(0), labels.sum_over_images(e_u), counts[1])
    e_v *= row_v[:, None] + column_v
    e_u *= row_u[:, None] + labels.of_positives(column_u)
    return (of_rows + of_columns)[None], labels.subtract_at_positives(e_v, e_u)


def _of_labels(
    of_images: Labels, targets: Tensor | LabelIndices, mask: Tensor | None, dtype: torch.dtype
) -> Labels:
    """Give the images of each label, where `of_images` are the labels of each image; nothing is looked at again."""
    if isinstance(of_images, DenseLabels):
        unknown = None if of_images.unknown is None else of_images.unknown.T
        return DenseLabels(of_images.positive.T, unknown, of_images.not_negative.T)
    dense = dense_targets(targets) if isinstance(targets, LabelIndices) else targets != 0
    return labels_of(dense.T, None if mask is None else mask.T, dtype)
