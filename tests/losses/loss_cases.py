"""The table of losses: the equation of each as plain loops, its options and the properties that its equation has.

An oracle is the equation as it is written, pair by pair in float64, for one row; autograd gives its gradient.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from lsep_ml import losses

Labels = Sequence[int]
Oracle = Callable[..., Tensor]
Targets = Tensor | losses.LabelIndices


@dataclass(frozen=True)
class Case:
    """A loss with its options bound, its oracle, and which properties its equation has.

    kind: "pairs" is 0 without a positive or a negative, "positives" without a positive, "labels" is a sum over labels
    on its own scale. smooth: differentiable twice. counted: takes class
    counts. refused: options out of range, and what the error says of them.
    """

    name: str
    oracle: Oracle
    options: dict[str, Any] = field(default_factory=dict)
    kind: Literal["pairs", "positives", "labels"] = "pairs"
    smooth: bool = True
    counted: bool = False
    refused: tuple[tuple[dict[str, Any], str], ...] = ()

    def __call__(self, scores: Tensor, targets: Targets, **more: Any) -> Tensor:
        if self.counted:
            more["class_counts"] = class_counts(scores.shape[-1])
        loss: Tensor = getattr(losses, f"{self.name}_loss")(scores, targets, **self.options, **more)
        return loss

    def expected(self, scores: Tensor, targets: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Values (N,) and gradients (N, K) by the oracle, in float64."""
        f = scores.detach().double().requires_grad_()
        known = torch.ones_like(targets, dtype=torch.bool) if mask is None else mask
        rows = []
        counts = {"class_counts": class_counts(f.shape[1])} if self.counted else {}
        for row, y, m in zip(f, targets.bool(), known, strict=True):
            positives, negatives = (y & m).nonzero()[:, 0].tolist(), (~y & m).nonzero()[:, 0].tolist()
            rows.append(self.oracle(row, positives, negatives, **self.options, **counts))
        values = torch.stack(rows)
        [gradient] = torch.autograd.grad(values.sum() + 0 * f.sum(), f)
        return values.detach(), gradient

    def computed(self, scores: Tensor, targets: Targets, **more: Any) -> tuple[Tensor, Tensor]:
        """Values (N,) and gradients (N, K) by the library."""
        f = scores.detach().clone().requires_grad_()
        values = self(f, targets, reduction="none", **more)
        return values.detach(), *torch.autograd.grad(values.sum(), f)


def class_counts(num_labels: int) -> losses.ClassCounts:
    """Of 100 training images: none, one, many and nearly all of them positive."""
    positives = torch.tensor([0, 1, 3, 50, 96]).repeat(num_labels // 5 + 1)[:num_labels]
    return losses.ClassCounts(positives, 100 - positives)


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


def label_weights(f: Tensor, pos_weight: str | None, cap: float, counts: losses.ClassCounts | None) -> Tensor:
    if pos_weight is None or counts is None:
        return torch.ones_like(f)
    ratios = [max(1, int(n)) / max(1, int(p)) for p, n in zip(*counts, strict=True)]
    weights = [ratio if pos_weight == "balanced" else math.sqrt(ratio) for ratio in ratios]
    return torch.tensor([min(cap, weight) for weight in weights], dtype=f.dtype)


def bce(
    f: Tensor,
    positives: Labels,
    negatives: Labels,
    normalize: bool = False,
    pos_weight: str | None = None,
    class_counts: losses.ClassCounts | None = None,
) -> Tensor:
    p = 1 / (1 + (-f).exp())
    weights = label_weights(f, pos_weight, 20.0, class_counts)
    total = -(weights * p.log())[positives].sum() - (1 - p[negatives]).log().sum()
    return total / max(1, len(positives) + len(negatives)) if normalize else total


def focal(
    f: Tensor,
    positives: Labels,
    negatives: Labels,
    gamma: float = 2.0,
    alpha: float | None = 0.25,
    pos_weight: str | None = None,
    class_counts: losses.ClassCounts | None = None,
) -> Tensor:
    p = 1 / (1 + (-f).exp())
    weights = label_weights(f, pos_weight, 20.0, class_counts)
    of_positives = (weights * (1 - p) ** gamma * p.log())[positives].sum()
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
    pos_weight: str | None = None,
    pos_weight_cap: float = 20.0,
    class_counts: losses.ClassCounts | None = None,
) -> Tensor:
    p = 1 / (1 + (-f).exp())
    q = (p - shift).clamp(min=0)
    weights = label_weights(f, pos_weight, pos_weight_cap, class_counts)
    of_positives = (weights * (1 - p) ** gamma_positive * p.log())[positives].sum()
    of_negatives = (q[negatives] ** gamma_negative * (1 - q[negatives]).log()).sum()
    return -of_positives - of_negatives


def hill(
    f: Tensor,
    positives: Labels,
    negatives: Labels,
    gamma: float = 2.0,
    margin: float = 1.0,
    hill: float = 1.5,
) -> Tensor:
    p, q = 1 / (1 + (-f).exp()), 1 / (1 + (margin - f).exp())
    of_positives = ((1 - q[positives]) ** gamma * q[positives].log()).sum()
    return ((hill - p[negatives]) * p[negatives] ** 2).sum() - of_positives


def splc(
    f: Tensor, positives: Labels, negatives: Labels, gamma: float = 2.0, margin: float = 1.0, tau: float = 0.6
) -> Tensor:
    total = f.new_zeros(())
    for u in positives:
        q = 1 / (1 + (margin - f[u]).exp())
        total = total - (1 - q) ** gamma * q.log()
    for v in negatives:
        p = 1 / (1 + (-f[v]).exp())
        total = total - ((1 - p) ** gamma * p.log() if p > tau else p**gamma * (1 - p).log())
    return total


def tkpr(f: Tensor, positives: Labels, negatives: Labels, top_k: int = 5, normalize: bool = False) -> Tensor:
    known = sorted([*positives, *negatives])
    highest = sorted(known, key=lambda j: -f[j].item())[:top_k]
    total = f.new_zeros(())
    for u in positives:
        for i in highest:
            total = total + torch.log(1 + (f[i] - f[u]).exp())
    return total / (top_k * max(1, len(positives))) if normalize else total


def distribution_balanced(
    f: Tensor,
    positives: Labels,
    negatives: Labels,
    class_counts: losses.ClassCounts,
    alpha: float = 0.1,
    beta: float = 10.0,
    mu: float = 0.2,
    kappa: float = 0.05,
    tolerance: float = 2.0,
) -> Tensor:
    n, others = ([max(1, int(count)) for count in counts] for counts in class_counts)
    drawn = sum(1 / n[u] for u in positives)
    total = f.new_zeros(())
    for k in [*positives, *negatives]:
        r = 1 / n[k] / drawn if drawn else math.inf
        weight = alpha + 1 / (1 + math.exp(-beta * (r - mu)))
        z = f[k] - kappa * math.log(others[k] / n[k])
        if k in positives:
            total = total + weight * torch.log(1 + (-z).exp())
        else:
            total = total + weight / tolerance * torch.log(1 + (tolerance * z).exp())
    return total


def ldam(
    f: Tensor,
    positives: Labels,
    negatives: Labels,
    class_counts: losses.ClassCounts,
    margin: float = 0.5,
    scale: float = 1.0,
) -> Tensor:
    n, others = ([max(1, int(count)) for count in counts] for counts in class_counts)
    largest = max(count**-0.25 for count in [*n, *others])
    total = f.new_zeros(())
    for u in positives:
        total = total + torch.log(1 + (-scale * (f[u] - margin * n[u] ** -0.25 / largest)).exp())
    for v in negatives:
        total = total + torch.log(1 + (scale * (f[v] + margin * others[v] ** -0.25 / largest)).exp())
    return total


def zlpr(f: Tensor, positives: Labels, negatives: Labels) -> Tensor:
    return torch.log(1 + f[negatives].exp().sum()) + torch.log(1 + (-f[positives]).exp().sum())


def pairwise_logistic(f: Tensor, positives: Labels, negatives: Labels, normalize: bool = False) -> Tensor:
    total = torch.log(1 + pairs(f, positives, negatives).exp()).sum()
    return total / max(1, len(positives) * len(negatives)) if normalize else total


CASES = [
    Case(
        "lsep",
        lsep,
        refused=(
            ({"max_pairs": 0}, "max_pairs=0"),
            ({"max_pairs": 9, "weighted": True}, "max_pairs=9 and weighted=True"),
            ({"temperature": 0.0}, "temperature=0"),
            ({"temperature": 4.0, "weighted": True}, "temperature=4.0: with .* weighted=True only 1"),
            ({"temperature": 4.0, "max_pairs": 9}, "temperature=4.0: with max_pairs=9"),
        ),
    ),
    Case("lsep", weighted_lsep, {"weighted": True}, smooth=False),
    Case("lsep", tempered_lsep, {"temperature": 4.0}),
    Case("bpmll", bpmll),
    Case("bpmll", bpmll, {"normalize": True}),
    Case("ranking", ranking, smooth=False),
    Case("ranking", ranking, {"margin": 0.25}, smooth=False),
    Case("warp", warp, smooth=False),
    Case("warp", warp, {"margin": 2.5}, smooth=False),
    Case("pairwise_logistic", pairwise_logistic, refused=(({"max_pairs": 0}, "max_pairs=0"),)),
    Case("pairwise_logistic", pairwise_logistic, {"normalize": True}),
    Case("softmax", softmax, kind="positives"),
    Case("softmax", softmax, {"normalize": True}, kind="positives"),
    Case("zlpr", zlpr, kind="labels"),
    Case("bce", bce, kind="labels"),
    Case("bce", bce, {"normalize": True}, kind="labels"),
    Case(
        "focal",
        focal,
        kind="labels",
        refused=(({"gamma": -1.0}, "gamma=-1"), ({"alpha": 2.0}, "alpha=2")),
    ),
    Case("focal", focal, {"gamma": 0.5, "alpha": None}, kind="labels"),
    Case(
        "asl",
        asl,
        kind="labels",
        smooth=False,
        refused=(({"gamma_negative": -1.0}, "gamma_negative=-1"), ({"shift": 1.0}, "shift=1")),
    ),
    Case("asl", asl, {"gamma_positive": 1.0, "shift": 0.0}, kind="labels"),
    Case("hill", hill, kind="labels", refused=(({"gamma": -1.0}, "gamma=-1"), ({"hill": 0.5}, "hill=0.5"))),
    Case("hill", hill, {"gamma": 0.5, "margin": 0.0, "hill": 1.0}, kind="labels"),
    Case(
        "bce",
        bce,
        {"pos_weight": "balanced"},
        kind="labels",
        counted=True,
        refused=(
            ({"pos_weight": "even"}, "pos_weight='even': expected balanced, tempered"),
            (
                {"pos_weight": "balanced"},
                "class_counts: pos_weight=balanced needs those of the training data",
            ),
            ({"pos_weight": [1.0, 2.0, 3.0]}, "pos_weight: 3 numbers, scores have 2 labels"),
            ({"pos_weight": [1.0, 0.0]}, "expected numbers above 0"),
            ({"pos_weight": "tempered", "pos_weight_cap": 0.5}, "pos_weight_cap=0.5"),
        ),
    ),
    Case("focal", focal, {"pos_weight": "tempered"}, kind="labels", counted=True),
    Case(
        "asl",
        asl,
        {"pos_weight": "balanced", "pos_weight_cap": 2.5},
        kind="labels",
        smooth=False,
        counted=True,
    ),
    Case("splc", splc, kind="labels", refused=(({"gamma": -1.0}, "gamma=-1"), ({"tau": 0.0}, "tau=0"))),
    Case("splc", splc, {"gamma": 0.5, "margin": 0.0, "tau": 1.0}, kind="labels"),
    Case("tkpr", tkpr, kind="positives", refused=(({"top_k": 0}, "top_k=0"),)),
    Case("tkpr", tkpr, {"top_k": 2, "normalize": True}, kind="positives"),
    Case(
        "distribution_balanced",
        distribution_balanced,
        kind="labels",
        counted=True,
        refused=(
            ({"alpha": -1.0}, "alpha=-1"),
            ({"tolerance": 0.0}, "tolerance=0"),
            ({}, "class_counts: distribution_balanced needs"),
            ({"class_counts": class_counts(3)}, "class_counts.positives: 3 counts, scores have 2 labels"),
        ),
    ),
    Case(
        "distribution_balanced",
        distribution_balanced,
        {"kappa": 1.0, "tolerance": 0.5},
        kind="labels",
        counted=True,
    ),
    Case(
        "ldam",
        ldam,
        kind="labels",
        counted=True,
        refused=(
            ({"margin": -1.0}, "margin=-1"),
            ({"scale": 0.0}, "scale=0"),
            ({}, "class_counts: ldam needs"),
        ),
    ),
    Case("ldam", ldam, {"margin": 2.0, "scale": 3.0}, kind="labels", counted=True),
]


def case_name(case: Case) -> str:
    return "-".join([case.name, *case.options])


every_loss = pytest.mark.parametrize("case", CASES, ids=case_name)
shift_invariant_losses = pytest.mark.parametrize(
    "case", [case for case in CASES if case.kind != "labels"], ids=case_name
)


def plain(name: str) -> Case:
    """The case of a loss without options."""
    [case] = [case for case in CASES if case.name == name and not case.options]
    return case


def draw(rows: int, labels: int, density: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Scores float64 (N, K) and 0/1 targets."""
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(rows, labels, dtype=torch.float64, generator=generator)
    return scores, (torch.rand(rows, labels, generator=generator) < density).long()


def draw_mask(rows: int, labels: int, seed: int = 0) -> Tensor:
    """Which of the targets are known: seven in ten."""
    return torch.rand(rows, labels, generator=torch.Generator().manual_seed(seed)) < 0.7
