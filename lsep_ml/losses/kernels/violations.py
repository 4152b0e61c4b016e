"""Which pairs violate their margin, counted without forming a pair.

A negative v violates the positive u when f_v > b_u, where b_u = f_u - a is the bound of u. Each comparison is made on
these same numbers, so that every count agrees about ties.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, pad

from lsep_ml.losses.kernels.compiled import LARGE
from lsep_ml.losses.kernels.fused import plain_eager
from lsep_ml.losses.kernels.labels import FAR, MANY, nonzero

Weight = Callable[[Tensor], Tensor]
"""Ranks r_u -> w(r_u), of the same shape and dtype."""

FEW = 64
"""Positives a row up to which comparing with one after the other is cheaper on a CPU than a binary search."""
LONG = 4096
"""Labels from which binning the scores is cheaper on a CPU than both."""
CACHED = 2**18
"""Scores compared with all bounds in turn before the next ones are: about what a core's own cache holds."""
EULER = 0.57721566490153286


def harmonic(ranks: Tensor) -> Tensor:
    """Compute WARP's w(r) = 1 + 1/2 + ... + 1/r of each of `ranks`; w(0) = 0."""
    return (torch.digamma(ranks.double() + 1) + EULER).where(ranks > 0, 0).to(ranks.dtype)


@torch.no_grad()
def violations(negatives: Tensor, bounds: Tensor, weight: Weight | None = None) -> tuple[Tensor, Tensor]:
    """Count, weighted by `weight`, which of `negatives` exceed which of `bounds`.

    negatives: f_v (N, K). bounds: b_u (N, P). Both are far away at entries that do not count. weight: w; None: 1.

    Returns:
        With r_u the number of negatives that violate u: the sum of w(r_u) over the positives u that v violates (N, K),
        and w(r_u) r_u (N, P).
    """
    num_labels = negatives.shape[1]
    here = plain_eager() and negatives.device.type == "cpu"
    if here and len(negatives) == 0:
        return torch.zeros_like(negatives), torch.zeros_like(bounds)
    if here and num_labels < MANY and negatives.numel() >= LARGE:
        return _weigh_pairs(negatives, bounds, weight)
    ascending, order = bounds.sort(dim=1)
    count = _count_by_searching
    if here:
        if num_labels >= LONG:
            count = _count_by_binning
        elif bounds.shape[1] <= FEW:
            count = _count_by_comparing
    below, ranks = count(negatives, ascending)
    if weight is not None:
        weights = _weights(ranks, weight, num_labels)
        ranks = weights * ranks
        below = pad(weights.cumsum(1), (1, 0)).gather(1, below.long())
    return below, torch.zeros_like(bounds).scatter(1, order, ranks)


def _weights(ranks: Tensor, weight: Weight, most: int) -> Tensor:
    """Compute weight(r) of each of `ranks`, which are at most `most`: from a table where that is the shorter."""
    if most < ranks.numel():
        return weight(torch.arange(most + 1, dtype=ranks.dtype, device=ranks.device))[ranks.long()]
    return weight(ranks)


def _weigh_pairs(negatives: Tensor, bounds: Tensor, weight: Weight | None) -> tuple[Tensor, Tensor]:
    """Return what `violations` does: each bound is compared with all scores of its row, some rows at a time.

    Where most rows have far fewer bounds than the one that has most, this passes over the scores least often.
    """
    num_rows, num_labels = negatives.shape
    entries = nonzero((bounds < FAR / 2).reshape(-1))
    rows = entries.div(bounds.shape[1], rounding_mode="floor")
    counts = torch.bincount(rows, minlength=num_rows)
    first = counts.cumsum(0) - counts
    size = max(1, CACHED * num_rows // (num_labels * max(1, len(entries))))
    lengths = [int(of_rows.sum()) for of_rows in counts.split(size)]
    below, ranks = torch.empty_like(negatives), bounds.new_empty(len(entries))
    for start, row, bound, rank, total in zip(
        first.split(size),
        rows.split(lengths),
        bounds.reshape(-1)[entries].split(lengths),
        ranks.split(lengths),
        below.split(size),
        strict=True,
    ):
        if len(row) == 0:
            total.zero_()
            continue
        exceeds = negatives.index_select(0, row)
        torch.gt(exceeds, bound[:, None], out=exceeds)
        torch.sum(exceeds, 1, out=rank)
        weights = None if weight is None else _weights(rank, weight, num_labels)
        if weights is not None:
            rank.mul_(weights)
        pairs = torch.arange(len(row), device=row.device)
        total.copy_(embedding_bag(pairs, exceeds, start - start[0], mode="sum", per_sample_weights=weights))
    return below, torch.zeros_like(bounds).view(-1).index_copy_(0, entries, ranks).view_as(bounds)


def _count_by_comparing(negatives: Tensor, ascending: Tensor) -> tuple[Tensor, Tensor]:
    """Count how many of the bounds each of `negatives` exceeds (N, K), and how many exceed each bound (N, P)."""
    below, ranks = torch.zeros_like(negatives), torch.zeros_like(ascending)
    width = max(1024, CACHED // len(negatives))
    for scores, counts in zip(negatives.split(width, 1), below.split(width, 1), strict=True):
        exceeds = torch.empty_like(scores)
        for bound, rank in zip(ascending.split(1, 1), ranks.split(1, 1), strict=True):
            torch.gt(scores, bound, out=exceeds)
            counts.add_(exceeds)
            rank.add_(exceeds.sum(1, keepdim=True))
    return below, ranks


def _count_by_binning(negatives: Tensor, ascending: Tensor) -> tuple[Tensor, Tensor]:
    """Count as `_count_by_comparing` does, at a cost that hardly grows with the number of bounds.

    A score is told from most bounds by its bin: between a row's lowest and highest bound lie bins of equal width. The
    map from a number to its bin is monotone, in floating point too, so that a score exceeds the bounds in lower bins
    and none in higher ones. Only the scores in a bin that has a bound itself are searched for among the bounds.
    """
    below, ranks = torch.empty_like(negatives), torch.empty_like(ascending)
    size = max(1, CACHED // negatives.shape[1])
    for rows in zip(
        negatives.split(size), ascending.split(size), below.split(size), ranks.split(size), strict=True
    ):
        _bin_rows(*rows)
    return below, ranks


def _bin_rows(negatives: Tensor, ascending: Tensor, below: Tensor, ranks: Tensor) -> None:
    """Write the counts of a few rows to `below` and `ranks`."""
    (num_rows, num_labels), num_bounds = negatives.shape, ascending.shape[1]
    bins = min(4096, num_labels // 8)
    above, padding, width = bins + 2, bins + 3, bins + 4  # bin 0 is below all bounds
    present = ascending < FAR / 2
    lowest = ascending[:, :1]
    highest = ascending.where(present, lowest).amax(1, keepdim=True)
    bins_a_unit = bins / (highest - lowest).clamp(min=1 / FAR)

    def bin_of(values: Tensor) -> Tensor:
        places = torch.sub(values, lowest).mul_(bins_a_unit).add_(1).clamp_(0, above)
        return places.nan_to_num_(0).int()

    # For every bin of every row, how many bounds lie in lower ones; -1 where it has some itself.
    of_bounds = bin_of(ascending).where(present, padding).long()
    inside = ascending.new_zeros(num_rows, width).scatter_add_(1, of_bounds, present.to(ascending.dtype))
    lower = (inside.cumsum(1) - inside).scatter_(1, of_bounds, -1)

    lower_in_any = lower.view(-1)
    first_bins = torch.arange(0, num_rows * width, width, dtype=torch.int32, device=lower.device)[:, None]
    in_bin = lower.new_zeros(num_rows * width, dtype=torch.int64)
    searched = lower.new_zeros(num_rows * (num_bounds + 1), dtype=torch.int64)
    for scores, counts in zip(negatives.split(CACHED, 1), below.split(CACHED, 1), strict=True):
        of_scores = bin_of(scores).add_(first_bins).view(-1)
        in_bin += torch.bincount(of_scores, minlength=len(in_bin))
        counts = counts.view(-1)  # one row's, or several whole ones
        torch.index_select(lower_in_any, 0, of_scores, out=counts)
        [undecided] = (counts.numpy() < 0).nonzero()
        places = torch.from_numpy(undecided)
        row = places.div(scores.shape[1], rounding_mode="floor")
        of_row = scores.reshape(-1)[places].split(torch.bincount(row, minlength=num_rows).tolist())
        found = torch.cat([torch.searchsorted(*pair) for pair in zip(ascending, of_row, strict=True)])
        counts[places] = found.to(counts.dtype)
        searched += torch.bincount(row * (num_bounds + 1) + found, minlength=len(searched))
    # How many scores exceed just so many bounds, and from there on how many exceed each.
    told = in_bin.view(num_rows, width).where(lower >= 0, 0)
    exceeding = searched.view(num_rows, -1).scatter_add(1, lower.clamp(min=0).long(), told)
    ranks.copy_(exceeding.flip(1).cumsum(1).flip(1)[:, 1:])


def _count_by_searching(negatives: Tensor, ascending: Tensor) -> tuple[Tensor, Tensor]:
    """Count as `_count_by_comparing` does: bounds part the scores into buckets; a score exceeds those below its own."""
    below = torch.searchsorted(ascending.contiguous(), negatives.contiguous())
    in_bucket = pad(torch.zeros_like(ascending), (0, 1)).scatter_add(1, below, torch.ones_like(negatives))
    ranks = in_bucket.flip(1).cumsum(1).flip(1)[:, 1:]
    return below.to(negatives.dtype), ranks
