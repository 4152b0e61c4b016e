"""Losses for a long tail of rare labels: what they weigh and how far they are to be pushed depends on class counts."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from lsep_ml.losses.kernels.class_counts import ClassCounts, counts_of
from lsep_ml.losses.kernels.inputs import Reduction, check_inputs, reduce
from lsep_ml.losses.kernels.labels import LabelIndices, labels_of

__all__ = ["distribution_balanced_loss", "ldam_loss"]


def distribution_balanced_loss(
    scores: Tensor,
    targets: Tensor | LabelIndices,
    *,
    reduction: Reduction = "mean",
    mask: Tensor | None = None,
    class_counts: ClassCounts | None = None,
    alpha: float = 0.1,
    beta: float = 10.0,
    mu: float = 0.2,
    kappa: float = 0.05,
    tolerance: float = 2.0,
) -> Tensor:
    r"""Compute the distribution-balanced loss (Wu et al., ECCV 2020) of each row of `scores`:

        sum_u w_u log(1 + exp(-(f_u - b_u))) + sum_v w_v / t log(1 + exp(t (f_v - b_v)))

    w_k = alpha + sigmoid(beta (r_k - mu)), r_k = (1 / n_k) / sum_u (1 / n_u), is high for the labels by which the image
    is drawn most where classes are sampled alike, and b_k = kappa log((N - n_k) / n_k), n_k the positives of label k
    among N in training, is large for the rare. With t the negatives, who are many, push less far. The defaults are the
    paper's for MS-COCO.

    Args:
        scores, targets, reduction, mask: as in `bce_loss`; targets are 0 or 1.
        class_counts: of the training data; a run fills them in. A count of 0 is taken for 1.
        alpha, beta, mu: of the weights: the least, the slope, and where it lies; alpha >= 0.
        kappa: how far the biases go.
        tolerance: t of the negatives, > 0.

    In a row without a known positive r is taken for infinite: its weights are alpha + 1.

    Raises:
        ValueError: wrong shapes, dtypes or targets; alpha or tolerance out of range; no class counts.

    Example:
        >>> import torch
        >>> from lsep_ml.losses import ClassCounts, distribution_balanced_loss
        >>> scores, targets = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1, 0, 0]])
        >>> counts = ClassCounts(torch.tensor([10, 50, 50]), torch.tensor([90, 50, 50]))
        >>> distribution_balanced_loss(scores, targets, class_counts=counts)
        tensor(1.0007)
    """
    if alpha < 0:
        raise ValueError(f"alpha={alpha}: expected at least 0")
    if tolerance <= 0:
        raise ValueError(f"tolerance={tolerance}: expected a number above 0")
    f = check_inputs(scores, targets, mask)
    positives, negatives = counts_of(class_counts, f, "distribution_balanced")
    labels = labels_of(targets, mask, f.dtype)
    inverse = (1 / positives).expand_as(f)
    drawn = labels.sum_of_positives(inverse)[:, None]
    weights = alpha + torch.sigmoid(beta * (inverse / drawn.clamp(min=torch.finfo(f.dtype).tiny) - mu))
    moved = f - kappa * (negatives / positives).log()
    # Where a side's scores are moved away its terms are 0, whatever they are multiplied by.
    of_positives = labels.positives(weights) * -F.logsigmoid(labels.positives(moved))
    of_negatives = weights / tolerance * -F.logsigmoid(-tolerance * labels.negatives(moved))
    return reduce(of_positives.sum(1) + of_negatives.sum(1), reduction)


def ldam_loss(
    scores: Tensor,
    targets: Tensor | LabelIndices,
    *,
    reduction: Reduction = "mean",
    mask: Tensor | None = None,
    class_counts: ClassCounts | None = None,
    margin: float = 0.5,
    scale: float = 1.0,
) -> Tensor:
    r"""Compute LDAM (Cao et al., NeurIPS 2019), one binary decision a label, of each row of `scores`:

        sum_u log(1 + exp(-s (f_u - d_u))) + sum_v log(1 + exp(s (f_v + e_v)))

    The margins are those the paper derives for two classes, d_k = C n_k^(-1/4) for the n_k positives of label k and
    e_k = C (N - n_k)^(-1/4) for its negatives: the rarer side is to be passed by more. C makes the largest of all of
    them the `margin`.

    Args:
        scores, targets, reduction, mask: as in `bce_loss`; targets are 0 or 1.
        class_counts: of the training data; a run fills them in. A count of 0 is taken for 1.
        margin: the largest margin, >= 0; 0 is `bce_loss` at s = 1.
        scale: s > 0; the authors take 30, their scores being cosines.

    Raises:
        ValueError: wrong shapes, dtypes or targets; margin or scale out of range; no class counts.

    Example:
        >>> import torch
        >>> from lsep_ml.losses import ClassCounts, ldam_loss
        >>> scores, targets = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1, 0, 0]])
        >>> counts = ClassCounts(torch.tensor([1, 16, 16]), torch.tensor([81, 16, 16]))
        >>> ldam_loss(scores, targets, class_counts=counts)  # margins 1/2 of the positive, 1/4 of the negatives
        tensor(2.5293)
    """
    if not 0 <= margin < math.inf:
        raise ValueError(f"margin={margin}: expected at least 0")
    if scale <= 0:
        raise ValueError(f"scale={scale}: expected a number above 0")
    f = check_inputs(scores, targets, mask)
    roots = torch.stack(counts_of(class_counts, f, "ldam")).pow(-0.25)
    of_positives, of_negatives = margin * roots / roots.max()
    labels = labels_of(targets, mask, f.dtype)
    positive = -F.logsigmoid(scale * labels.positives(f - of_positives))
    negative = -F.logsigmoid(-scale * labels.negatives(f + of_negatives))
    return reduce(positive.sum(1) + negative.sum(1), reduction)
