"""Which pairs violate their margin, counted without forming a pair.

A negative v violates the positive u when f_v > b_u, where b_u = f_u - a is the bound of u. Each comparison is made on
these same numbers, so that every count agrees about ties.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from lsep_ml.losses.fused import plain_eager

Weight = Callable[[Tensor], Tensor]
"""Ranks r_u -> w(r_u), of the same shape and dtype."""

FEW = 64
"""Positives a row up to which comparing with one after the other is cheaper on a CPU than a binary search."""
UNROLLED = (8, 16, 32)
"""Positives a row for which compiled code compares with one after the other; each number is compiled once, and more
would take a C++ compiler minutes."""
CACHED = 2**18
"""Scores compared with all bounds in turn before the next ones are: about what a core's own cache holds."""
EULER = 0.57721566490153286


def harmonic(ranks: Tensor) -> Tensor:
    """w(r) = 1 + 1/2 + ... + 1/r, w(0) = 0: WARP's."""
    return (torch.digamma(ranks.double() + 1) + EULER).where(ranks > 0, 0).to(ranks.dtype)


@torch.no_grad()
def violations(negatives: Tensor, bounds: Tensor, weight: Weight | None = None) -> tuple[Tensor, Tensor]:
    """The weighted violations of each negative and of each positive.

    negatives: f_v (N, K), bounds: b_u (N, P), both far away at entries that do not count. With r_u the number of
    negatives that violate u, returns the sum of w(r_u) over the positives u that v violates (N, K), and w(r_u) r_u
    (N, P). Without a weight, w = 1.
    """
    if torch.compiler.is_compiling() and weight is None and bounds.shape[1] in UNROLLED:
        return _compare_unrolled(negatives, bounds)
    ascending, order = bounds.sort(dim=1)
    if plain_eager() and negatives.device.type == "cpu" and bounds.shape[1] <= FEW:
        below, ranks = _count_by_comparing(negatives, ascending)
    else:
        below, ranks = _count_by_searching(negatives, ascending)
    if weight is not None:
        weights = weight(ranks)
        ranks = weights * ranks
        below = pad(weights.cumsum(1), (1, 0)).gather(1, below.long())
    return below, torch.zeros_like(bounds).scatter(1, order, ranks)


def _compare_unrolled(negatives: Tensor, bounds: Tensor) -> tuple[Tensor, Tensor]:
    """How many bounds each negative exceeds (N, K), and how many negatives exceed each bound (N, P), in any order.

    A compiler makes two passes over the scores of it, without an array but the results.
    """
    columns = bounds.split(1, 1)
    ranks = torch.cat([(negatives > bound).to(bounds.dtype).sum(1, keepdim=True) for bound in columns], 1)
    below = torch.zeros_like(negatives)
    for bound in columns:
        below = below + (negatives > bound).to(below.dtype)
    return below, ranks


def _count_by_comparing(negatives: Tensor, ascending: Tensor) -> tuple[Tensor, Tensor]:
    """How many bounds each negative exceeds (N, K), and how many negatives exceed each of the bounds (N, P)."""
    below, ranks = torch.zeros_like(negatives), torch.zeros_like(ascending)
    width = max(1024, CACHED // len(negatives))
    for scores, counts in zip(negatives.split(width, 1), below.split(width, 1), strict=True):
        exceeds = torch.empty_like(scores)
        for bound, rank in zip(ascending.split(1, 1), ranks.split(1, 1), strict=True):
            torch.gt(scores, bound, out=exceeds)
            counts.add_(exceeds)
            rank.add_(exceeds.sum(1, keepdim=True))
    return below, ranks


def _count_by_searching(negatives: Tensor, ascending: Tensor) -> tuple[Tensor, Tensor]:
    """The same: the bounds part the scores into buckets, and a negative exceeds the bounds below its bucket."""
    below = torch.searchsorted(ascending.contiguous(), negatives.contiguous())
    in_bucket = pad(torch.zeros_like(ascending), (0, 1)).scatter_add(1, below, torch.ones_like(negatives))
    ranks = in_bucket.flip(1).cumsum(1).flip(1)[:, 1:]
    return below.to(negatives.dtype), ranks
