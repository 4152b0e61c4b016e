"""Losses for labels that are missing: positives that nobody noted stand among the negatives.

Both are from Zhang et al., "Simple and Robust Loss Design for Multi-Label Learning with Missing Labels" (2021).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from lsep_ml.losses.kernels.inputs import Reduction, check_inputs, reduce
from lsep_ml.losses.kernels.labels import LabelIndices
from lsep_ml.losses.kernels.sums import power, sum_of_terms

__all__ = ["hill_loss", "splc_loss"]


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

    A negative with a high score is likely to be a positive that nobody noted, so its gradient, 3 p^2 (1 - p)^2 at
    l = 3/2, falls again beyond p = 1/2. The defaults are the paper's.

    Args:
        scores, targets, reduction, mask: as in `bce_loss`; targets are 0 or 1.
        gamma: focus on positives that are far from right, >= 0.
        margin: m, by how much a positive's score is to exceed 0.
        hill: l, the place of the hill, >= 1, so that no term is negative.

    Raises:
        ValueError: wrong shapes, dtypes or targets; gamma or hill out of range.

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
        return -power(torch.sigmoid(margin - f_u), gamma) * F.logsigmoid(f_u - margin)

    def negative_term(f_v: Tensor) -> Tensor:
        p = torch.sigmoid(f_v)
        return (hill - p) * p.square()

    return reduce(sum_of_terms(f, targets, mask, positive_term, negative_term), reduction)


def splc_loss(
    scores: Tensor,
    targets: Tensor | LabelIndices,
    *,
    reduction: Reduction = "mean",
    mask: Tensor | None = None,
    gamma: float = 2.0,
    margin: float = 1.0,
    tau: float = 0.6,
) -> Tensor:
    r"""Compute the self-paced loss correction (SPLC, Zhang et al. 2021) of each row of `scores`, with p = sigmoid(f):

        - sum_u (1 - q_u)^gamma log q_u - sum_{v: p_v <= tau} p_v^gamma log(1 - p_v)
        - sum_{v: p_v > tau} (1 - p_v)^gamma log p_v,  q_u = sigmoid(f_u - m)

    A negative whose probability exceeds tau is taken for a positive that nobody noted. The authors begin with that
    after one epoch; here it holds from the first step, when the scores of a new layer are too small for it. At tau the
    loss jumps.

    Args:
        scores, targets, reduction, mask: as in `bce_loss`; targets are 0 or 1.
        gamma: focus on labels that are far from right, >= 0.
        margin: m, by how much a noted positive's score is to exceed 0.
        tau: the probability from which a negative is taken for a positive, in (0, 1]; 1: none is.

    Raises:
        ValueError: wrong shapes, dtypes or targets; gamma or tau out of range.

    Example:
        >>> import torch
        >>> from lsep_ml.losses import splc_loss
        >>> scores, targets = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1, 0, 0]])
        >>> splc_loss(scores, targets)  # the second label, p = 0.73, counts as a positive
        tensor(0.2186)
        >>> splc_loss(scores, targets, tau=0.8)
        tensor(0.8978)
    """
    if gamma < 0:
        raise ValueError(f"gamma={gamma}: expected at least 0")
    if not 0 < tau <= 1:
        raise ValueError(f"tau={tau}: expected a number in (0, 1]")
    f = check_inputs(scores, targets, mask)

    def positive_term(f_u: Tensor) -> Tensor:
        return -power(torch.sigmoid(-f_u), gamma) * F.logsigmoid(f_u)

    def negative_term(f_v: Tensor) -> Tensor:
        # With the sign turned where p <= tau, both of the two terms are the one of a positive.
        return positive_term(torch.where(torch.sigmoid(f_v) > tau, f_v, -f_v))

    return reduce(
        sum_of_terms(f, targets, mask, lambda f_u: positive_term(f_u - margin), negative_term), reduction
    )
