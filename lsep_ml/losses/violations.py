"""Which pairs violate their margin, counted without forming a pair.

A negative v violates the positive u when f_v > b_u, where b_u = f_u - a is the bound of u. Each comparison is made on
these same numbers, so that every count agrees about ties.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lsep_ml.losses.fused import plain_eager

Weight = Callable[[Tensor], Tensor]
"""Ranks r_u -> w(r_u)."""

FEW = 64
"""Positives a row up to which comparing with one after the other is cheaper on a CPU than a binary search."""
EULER = 0.57721566490153286


def uniform(ranks: Tensor) -> Tensor:
    """w(r) = 1: the ranking loss."""
    return torch.ones_like(ranks)


def harmonic(ranks: Tensor) -> Tensor:
    """w(r) = 1 + 1/2 + ... + 1/r, w(0) = 0: WARP."""
    return (torch.digamma(ranks.double() + 1) + EULER).to(ranks.dtype)


@torch.no_grad()
def violations(negatives: Tensor, bounds: Tensor, weight: Weight) -> tuple[Tensor, Tensor]:
    """The weighted violations of each negative and of each positive.

    negatives: f_v (N, K), bounds: b_u (N, P), both far away at entries that do not count. Returns the sum of w(r_u)
    over the positives u that v violates (N, K), and w(r_u) r_u (N, P), r_u being the number of negatives violating u.
    """
    if plain_eager() and negatives.device.type == "cpu" and bounds.shape[1] <= FEW:
        return _one_by_one(negatives, bounds, weight)
    return _by_search(negatives, bounds, weight)


def _one_by_one(negatives: Tensor, bounds: Tensor, weight: Weight) -> tuple[Tensor, Tensor]:
    by_negative, violates = torch.zeros_like(negatives), torch.empty_like(negatives)
    by_positive = torch.empty_like(bounds)
    for u, bound in enumerate(bounds.split(1, dim=1)):
        torch.gt(negatives, bound, out=violates)
        ranks = violates.sum(1, keepdim=True)
        weights = weight(ranks)
        by_negative.addcmul_(violates, weights)
        by_positive[:, u : u + 1] = weights * ranks
    return by_negative, by_positive


def _by_search(negatives: Tensor, bounds: Tensor, weight: Weight) -> tuple[Tensor, Tensor]:
    """Every negative is put in the bucket between two bounds: it violates all the bounds below its bucket."""
    ascending, order = bounds.sort(dim=1)
    below = torch.searchsorted(ascending, negatives)  # how many bounds lie strictly below f_v
    in_bucket = torch.nn.functional.pad(torch.zeros_like(below[:, :1]).expand_as(bounds), (0, 1))
    in_bucket = in_bucket.scatter_add(1, below, torch.ones_like(below))
    # The negatives above a bound are those in the buckets above it.
    ranks = in_bucket.flip(1).cumsum(1).flip(1)[:, 1:].to(bounds.dtype)
    weights = weight(ranks)
    weights_below = torch.nn.functional.pad(weights.cumsum(1), (1, 0))
    by_positive = torch.zeros_like(bounds).scatter(1, order, weights * ranks)
    return weights_below.gather(1, below), by_positive
