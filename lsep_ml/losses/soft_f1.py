"""The F1 of each label over the images of a batch, made differentiable."""

import torch
from torch import Tensor

from lsep_ml.losses.kernels.inputs import Reduction, check_inputs, reduce
from lsep_ml.losses.kernels.labels import LabelIndices, dense_targets, known_targets
from lsep_ml.losses.kernels.values import check_targets
from lsep_ml.losses.properties import check_reduction, comparing_images

__all__ = ["soft_f1_loss"]


@comparing_images
def soft_f1_loss(
    scores: Tensor,
    targets: Tensor | LabelIndices,
    *,
    reduction: Reduction = "mean",
    mask: Tensor | None = None,
    slope: float = 1.0,
    offset: float = 0.0,
) -> Tensor:
    r"""Compute sigmoidF1 (Benedict et al., TMLR 2022) of each label, 1 - 2 sum_i p_i y_i / (sum_i p_i + sum_i y_i).

    p = sigmoid(slope f + offset), and i runs over the images whose label is known: it is macro F1 with probabilities in
    the place of predictions, and depends on the batch (in training the whole one, whichever process has which part of
    it). It is not convex, and nearly flat where all scores are wrong.

    Args:
        scores: f, floating point (N, K); half precision is computed, and the loss returned, in float32.
        targets: 0/1 of any dtype (N, K), or LabelIndices.
        reduction: "mean" over the K labels or "sum". "none" is refused: a label is no image's.
        mask: bool (N, K), True where the target is known; an unknown entry enters no sum.
        slope, offset: of the sigmoid; slope > 0.

    A label without a known positive adds 0 and has gradient 0; it counts in the mean.

    Raises:
        ValueError: wrong shapes, dtypes or targets; a slope that is not above 0; another reduction.

    Example:
        >>> import torch
        >>> from lsep_ml.losses import soft_f1_loss
        >>> scores, targets = torch.tensor([[0.0], [0.0]]), torch.tensor([[1], [0]])
        >>> soft_f1_loss(scores, targets)  # 1 - 2 * 0.5 / (1 + 1)
        tensor(0.5000)
    """
    if slope <= 0:
        raise ValueError(f"slope={slope}: expected a number above 0")
    f = check_inputs(scores, targets, mask)
    check_reduction(reduction)
    given = dense_targets(targets) if isinstance(targets, LabelIndices) else targets
    given = known_targets(given, mask)
    check_targets(given)
    positive = given.to(f.dtype)
    p = torch.sigmoid(slope * f + offset)
    if mask is not None:
        p = p * mask
    actual = positive.sum(0)
    overlap = 2 * (p * positive).sum(0) / (p.sum(0) + actual.clamp(min=1))
    return reduce(torch.where(actual > 0, 1 - overlap, 0), reduction)
