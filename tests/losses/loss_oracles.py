"""The losses as their equations are written, pair by pair in float64, for one row; autograd gives their gradients."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Labels = Sequence[int]
Oracle = Callable[..., Tensor]


def pairs(f: Tensor, positives: Labels, negatives: Labels) -> Tensor:
    """f_v - f_u of every pair."""
    u = [u for u in positives for _ in negatives]
    v = [v for _ in positives for v in negatives]
    return f[v] - f[u]


def lsep(f: Tensor, positives: Labels, negatives: Labels) -> Tensor:
    return torch.log(1 + pairs(f, positives, negatives).exp().sum())


def weighted_lsep(
    f: Tensor, positives: Labels, negatives: Labels, weighted: bool, margin: float = 1.0
) -> Tensor:
    total = f.new_zeros(())
    for u in positives:
        total = total + harmonic(rank(f, u, negatives, margin)) * pairs(f, [u], negatives).exp().sum()
    return torch.log(1 + total)


def tempered_lsep(f: Tensor, positives: Labels, negatives: Labels, temperature: float) -> Tensor:
    if not positives or not negatives:
        return f.new_zeros(())
    of_positives = (-f[positives] / temperature).exp().sum() ** temperature
    return torch.log(1 + f[negatives].exp().sum() * of_positives)


def two_way(f: Tensor, targets: Tensor, mask: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The sums over the rows and over the columns of whole matrices (N, K)."""

    def over_rows(f: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        total = 0 * f.sum()
        for row, y, known in zip(f, targets.bool(), mask, strict=True):
            positives, negatives = (y & known).nonzero()[:, 0].tolist(), (~y & known).nonzero()[:, 0].tolist()
            total = total + tempered_lsep(row, positives, negatives, temperature)
        return total

    return over_rows(f, targets, mask), over_rows(f.T, targets.T, mask.T)


def bpmll(f: Tensor, positives: Labels, negatives: Labels, normalize: bool = False) -> Tensor:
    total = pairs(f, positives, negatives).exp().sum()
    return total / max(1, len(positives) * len(negatives)) if normalize else total


def ranking(f: Tensor, positives: Labels, negatives: Labels, margin: float = 1.0) -> Tensor:
    total = f.new_zeros(())
    for u in positives:
        bound = f[u] - margin
        for v in negatives:
            if f[v] > bound:
                total = total + (f[v] - bound)
    return total


def warp(f: Tensor, positives: Labels, negatives: Labels, margin: float = 1.0) -> Tensor:
    total = f.new_zeros(())
    for u in positives:
        weight = harmonic(rank(f, u, negatives, margin))
        total = total + weight * ranking(f, [u], negatives, margin)
    return total


def rank(f: Tensor, u: int, negatives: Labels, margin: float) -> int:
    """The number of negatives that violate u."""
    return sum(bool(f[v] > f[u] - margin) for v in negatives)


def harmonic(rank: int) -> float:
    return sum(1 / r for r in range(1, rank + 1))


def softmax(f: Tensor, positives: Labels, negatives: Labels, normalize: bool = False) -> Tensor:
    total = f.new_zeros(())
    for u in positives:
        total = total - torch.log(f[u].exp() / f[[*positives, *negatives]].exp().sum())
    return total / max(1, len(positives)) if normalize else total


def bce(f: Tensor, positives: Labels, negatives: Labels, normalize: bool = False) -> Tensor:
    p = 1 / (1 + (-f).exp())
    total = -p[positives].log().sum() - (1 - p[negatives]).log().sum()
    return total / max(1, len(positives) + len(negatives)) if normalize else total


def focal(
    f: Tensor, positives: Labels, negatives: Labels, gamma: float = 2.0, alpha: float | None = 0.25
) -> Tensor:
    p = 1 / (1 + (-f).exp())
    of_positives = ((1 - p[positives]) ** gamma * p[positives].log()).sum()
    of_negatives = (p[negatives] ** gamma * (1 - p[negatives]).log()).sum()
    a, b = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    return -a * of_positives - b * of_negatives


def asl(
    f: Tensor,
    positives: Labels,
    negatives: Labels,
    gamma_positive: float = 0.0,
    gamma_negative: float = 4.0,
    shift: float = 0.05,
) -> Tensor:
    p = 1 / (1 + (-f).exp())
    q = (p - shift).clamp(min=0)
    of_positives = ((1 - p[positives]) ** gamma_positive * p[positives].log()).sum()
    of_negatives = (q[negatives] ** gamma_negative * (1 - q[negatives]).log()).sum()
    return -of_positives - of_negatives


def zlpr(f: Tensor, positives: Labels, negatives: Labels) -> Tensor:
    return torch.log(1 + f[negatives].exp().sum()) + torch.log(1 + (-f[positives]).exp().sum())


def pairwise_logistic(f: Tensor, positives: Labels, negatives: Labels, normalize: bool = False) -> Tensor:
    total = torch.log(1 + pairs(f, positives, negatives).exp()).sum()
    return total / max(1, len(positives) * len(negatives)) if normalize else total
