"""Pair losses of hinges, ranking (eqn 6) and WARP (eqn 11): no pair is ever formed.

The hinge of a pair (u, v) is max(0, f_v - b_u), b_u = f_u - a, and the pair violates the margin a when f_v > b_u. The
sum of the hinges is piecewise linear in the scores. With the weight w of a positive's hinges (ranking: 1), c_v the sum
of the weights of the positives that v violates, and c_u the weight of u times the number of negatives that violate it,

    sum_u w_u sum_v max(0, f_v - b_u) = sum_v c_v f_v - sum_u c_u b_u,

and c_v and -c_u are the gradient.
"""

import torch
from torch import Tensor

from lsep_ml.losses.kernels.compiled import TARGETS, compiled_for, hinge_sums
from lsep_ml.losses.kernels.fused import rowwise
from lsep_ml.losses.kernels.inputs import Reduction, check_inputs, reduce
from lsep_ml.losses.kernels.labels import LabelIndices, dense_targets, labels_of
from lsep_ml.losses.kernels.violations import Weight, harmonic, violations
from lsep_ml.losses.pairwise_logistic import softplus_over_pairs
from lsep_ml.losses.properties import shift_invariant

__all__ = ["ranking_loss", "warp_loss"]


@shift_invariant
def ranking_loss(
    scores: Tensor,
    targets: Tensor | LabelIndices,
    *,
    reduction: Reduction = "mean",
    mask: Tensor | None = None,
    margin: float = 1.0,
) -> Tensor:
    r"""Compute the pairwise hinge loss of each row of `scores`: sum_u sum_v max(0, a + f_v - f_u) (eqn 6), exact.

    u runs over the known positives of a row and v over its known negatives; a is `margin`.

    Args:
        scores: f, floating point (N, K); half precision is computed, and the loss returned, in float32.
        targets: 0/1 of any dtype (N, K), or LabelIndices.
        reduction: "mean" over the N rows (rows without a pair count), "sum" or "none" (N,).
        mask: bool (N, K), True where the target is known; an unknown entry enters no pair.
        margin: a, by how much a positive's score is to exceed a negative's.

    A row without a known positive or without a known negative has loss 0 and gradient 0.

    Raises:
        ValueError: wrong shapes, dtypes or targets.

    Example:
        >>> import torch
        >>> from lsep_ml.losses import ranking_loss
        >>> scores, targets = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1, 0, 0]])
        >>> ranking_loss(scores, targets, margin=1.5)  # 1.5 + 1 - 2: the second negative is beyond the margin
        tensor(0.5000)
    """
    return reduce(_hinges(scores, targets, mask, margin, None), reduction)


@shift_invariant
def warp_loss(
    scores: Tensor,
    targets: Tensor | LabelIndices,
    *,
    reduction: Reduction = "mean",
    mask: Tensor | None = None,
    margin: float = 1.0,
    sampled: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Compute WARP of each row of `scores`: sum_u w(r_u) sum_v max(0, a + f_v - f_u) (eqn 11), exact.

    w(r) = 1 + 1/2 + ... + 1/r, and r_u is the margin-penalised rank of the positive u, the number of negatives with
    a + f_v - f_u > 0; a positive without one has no term. The weight is constant in the gradient.

    Args:
        scores, targets, reduction, mask, margin: as in `ranking_loss`.
        sampled: as in WSABIE (Weston et al. 2011) and Gong et al. (2014): for each positive, negatives are drawn with
            replacement until one violates, at most |not-Y| times; if the n-th does, the term is
            w(floor(|not-Y| / n)) max(0, a + f_v - f_u) of that one violator. This is another loss than eqn 11, on
            another scale: about w(r_u) / r_u times the sum of the hinges.
        generator: of the draws, on the device of the scores; torch's own by default.

    Raises:
        ValueError: wrong shapes, dtypes or targets.

    Example:
        >>> import torch
        >>> from lsep_ml.losses import warp_loss
        >>> scores, targets = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1, 0, 0]])
        >>> warp_loss(scores, targets, margin=2.5)  # (1 + 1/2) * ((2.5 + 1 - 2) + (2.5 + 0 - 2))
        tensor(3.)
    """
    if sampled:
        return reduce(_sampled_warp(scores, targets, mask, margin, generator), reduction)
    return reduce(_hinges(scores, targets, mask, margin, harmonic), reduction)


def smoothed_hinges(
    scores: Tensor,
    targets: LabelIndices,
    *,
    mask: Tensor | None = None,
    margin: float = 1.0,
    width: float,
) -> Tensor:
    r"""Compute the mean of `ranking_loss` with its kinks rounded: sum_u sum_v h log(1 + exp((a + f_v - f_u) / h)).

    It lies above the hinges, by at most h log 2 a pair and by far less away from the kinks, and is convex and smooth.

    Args:
        scores, targets, mask, margin: as in `ranking_loss`.
        width: h > 0.
    """
    f = check_inputs(scores, targets, mask)
    lifted = torch.where(dense_targets(targets), f, f + margin) / width
    labels = labels_of(targets, mask, f.dtype)
    return width * softplus_over_pairs(lifted, labels).mean()


def _hinges(
    scores: Tensor, targets: Tensor | LabelIndices, mask: Tensor | None, margin: float, weight: Weight | None
) -> Tensor:
    """Compute sum_u w_u sum_v max(0, a + f_v - f_u) of every row (N,)."""

    def formula(f: Tensor) -> Tensor:
        slope, origin, at_origin = _line(f, targets, mask, margin, weight)
        return (slope * (f - origin)).sum(1) + at_origin

    def with_gradient(f: Tensor) -> tuple[Tensor, Tensor]:
        slope, origin, at_origin = _line(f, targets, mask, margin, weight)
        return (f - origin).mul_(slope).sum(1).add_(at_origin), slope

    return rowwise(check_inputs(scores, targets, mask), formula, with_gradient)


@torch.no_grad()
def _line(
    f: Tensor, targets: Tensor | LabelIndices, mask: Tensor | None, margin: float, weight: Weight | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the slope (N, K), origin (N, 1) and value there (N,) of the piece on which the scores lie.

    Measured from the lowest bound, all terms are the size of a hinge, whatever the size of the scores.
    """
    sparse = isinstance(targets, LabelIndices)
    given = targets.indices if isinstance(targets, LabelIndices) else targets
    if compiled_for(f, torch.float32, torch.float64) and (sparse or given.dtype in TARGETS):
        sums = hinge_sums(f, given, mask, margin, weight, sparse=sparse)
        if sums is not None:
            return sums.slope, sums.lowest, margin * sums.total
    labels = labels_of(targets, mask, f.dtype, search=True)
    bounds = labels.positives(f) - margin
    by_negative, by_positive = violations(labels.negatives(f), bounds, weight)
    return (
        labels.subtract_at_positives(by_negative, by_positive),
        bounds.amin(1, keepdim=True),
        margin * by_positive.sum(1),
    )


def _sampled_warp(
    scores: Tensor,
    targets: Tensor | LabelIndices,
    mask: Tensor | None,
    margin: float,
    generator: torch.Generator | None,
) -> Tensor:
    """Compute sum_u w(floor(|not-Y| / n)) max(0, a + f_v - f_u) of every row (N,), v being a violator drawn at the n-th
    try."""
    f = check_inputs(scores, targets, mask)
    labels = labels_of(targets, mask, f.dtype, search=True)
    bounds, negatives = labels.positives(f) - margin, labels.negatives(f)
    with torch.no_grad():
        num_negatives = labels.num_negatives()[:, None]
        _, ranks = violations(negatives, bounds)
        # Of the draws only these two matter: how many it takes, and which of the violators it is, any alike.
        tries = _tries_until(ranks / num_negatives.clamp(min=1), generator)
        weights = harmonic(torch.where(ranks > 0, (num_negatives / tries).floor(), 0))
        which = (_uniform_like(ranks, generator) * ranks).long().clamp(max=negatives.shape[1] - 1)
        violators = negatives.argsort(dim=1, descending=True).gather(1, which)
    hinges = negatives.gather(1, violators) - bounds
    return torch.where(weights > 0, weights * hinges, 0).sum(1)


def _tries_until(probabilities: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return how many independent tries it takes to the first success: geometric numbers, infinite at probability 0."""
    failures = torch.log1p(-_uniform_like(probabilities, generator)) / torch.log1p(-probabilities)
    return failures.floor().add(1).where(probabilities > 0, torch.inf)


def _uniform_like(values: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw numbers uniform in [0, 1)."""
    return torch.rand(values.shape, dtype=values.dtype, device=values.device, generator=generator)
