"""The exact risk of a loss under a distribution over label sets, R(f) = sum_Y P(Y) loss(f, Y), and its minimiser.

Shapes: D distributions at once, probabilities (D, 2^K) in the order of `label_sets`, scores f (D, K); float64.
"""

from collections.abc import Callable
from functools import partial
from itertools import product

import torch
from torch import Tensor

from lsep_ml import losses

Loss = Callable[..., Tensor]

SMOOTH: dict[str, Loss] = {
    "lsep": losses.lsep_loss,
    "bpmll": losses.bpmll_loss,
    "bpmll normalised": partial(losses.bpmll_loss, normalize=True),
    "softmax": losses.softmax_loss,
    "softmax normalised": partial(losses.softmax_loss, normalize=True),
    "pairwise logistic": losses.pairwise_logistic_loss,
    "bce": losses.bce_loss,
    "zlpr": losses.zlpr_loss,
}
"""Convex in f: minimised by Newton's method."""
HINGE: dict[str, Loss] = {"ranking": losses.ranking_loss, "warp": losses.warp_loss}
"""Piecewise linear in f: minimised by looking at every vertex."""

RIDGE = 1e-9
"""RIDGE / 2 |f|^2 is added to a smooth risk: where its minimiser lies at infinity, f stays within about +-20."""
LONGEST_STEP = 2.0
"""Of a score in one step: where a risk is nearly straight, Newton's own step goes far beyond the minimum."""


def label_sets(num_labels: int) -> Tensor:
    """All subsets of K labels, the empty and the full one included, as 0/1 rows (2^K, K)."""
    return torch.tensor(list(product((0, 1), repeat=num_labels)))


def marginals(probabilities: Tensor) -> Tensor:
    """P(u in Y), (D, K)."""
    return probabilities @ label_sets(_num_labels(probabilities)).double()


def pair_probabilities(probabilities: Tensor) -> Tensor:
    """P(u in Y, v not in Y), (D, K, K): beta of eqn 22."""
    sets = label_sets(_num_labels(probabilities)).double()
    return torch.einsum("ds,su,sv->duv", probabilities, sets, 1 - sets)


def risk(loss: Loss, scores: Tensor, probabilities: Tensor) -> Tensor:
    """R(f) of each distribution, (D,)."""
    count, num_sets = probabilities.shape
    rows = scores.repeat_interleave(num_sets, 0)
    targets = label_sets(scores.shape[1]).repeat(count, 1)
    return (loss(rows, targets, reduction="none").view(count, num_sets) * probabilities).sum(1)


def minimiser(name: str, probabilities: Tensor) -> Tensor:
    """The minimising scores f* of a loss, (D, K), their mean 0 where adding a constant to f changes nothing.

    Where a hinge loss has several minimisers, the one that orders the labels best (`ranking_error`).
    """
    return vertex(HINGE[name], probabilities) if name in HINGE else newton(SMOOTH[name], probabilities)


def newton(loss: Loss, probabilities: Tensor, steps: int = 300) -> Tensor:
    """The minimiser of a smooth convex risk, all distributions at once, by Newton's method with a line search.

    Raises:
        RuntimeError: a gradient above 1e-9 is left after all steps.
    """
    scores = probabilities.new_zeros(len(probabilities), _num_labels(probabilities))
    for _ in range(steps):
        value, gradient, hessian = _derivatives(loss, scores, probabilities)
        if gradient.abs().max() < 1e-12:
            break
        step = -torch.linalg.solve(hessian, gradient)
        step = step * (LONGEST_STEP / step.abs().amax(1, keepdim=True).clamp(min=LONGEST_STEP))
        slope = (gradient * step).sum(1)
        length = torch.ones_like(value)
        for _ in range(40):
            moved = scores + length[:, None] * step
            enough = _objective(loss, moved, probabilities) <= value + 1e-4 * length * slope + 1e-15
            if enough.all():
                break
            length = torch.where(enough, length, length / 2)
        scores = torch.where(enough[:, None], scores + length[:, None] * step, scores)
    if not gradient.abs().max() < 1e-9:
        raise RuntimeError(f"gradient of {gradient.abs().max():.1e} left after {steps} steps")
    return scores


def _objective(loss: Loss, scores: Tensor, probabilities: Tensor) -> Tensor:
    return risk(loss, scores, probabilities) + RIDGE / 2 * scores.square().sum(1)


def _derivatives(loss: Loss, scores: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Objective (D,), gradient (D, K) and Hessian (D, K, K)."""
    scores = scores.requires_grad_()
    with losses.fused(False):
        value = _objective(loss, scores, probabilities)
        (gradient,) = torch.autograd.grad(value.sum(), scores, create_graph=True)
        rows = [torch.autograd.grad(column.sum(), scores, retain_graph=True)[0] for column in gradient.T]
    scores.requires_grad_(False)
    return value.detach(), gradient.detach(), torch.stack(rows, 1)


def vertex(loss: Loss, probabilities: Tensor) -> Tensor:
    """A minimiser of a hinge risk, exact, by looking at all its vertices.

    With margin 1 the risk is linear between the hyperplanes f_u - f_v = +-1, and, as a violation is strict, as low on
    such a plane as on either side of it. Its minimum is taken at a vertex, where K - 1 of these equations fix f up to
    a constant: at integers with differences of at most K - 1.
    """
    num_labels = _num_labels(probabilities)
    points = [point for point in product(range(num_labels), repeat=num_labels) if min(point) == 0]
    scores = torch.tensor(points, dtype=torch.float64)
    sets = label_sets(num_labels)
    rows = scores.repeat_interleave(len(sets), 0)
    values = loss(rows, sets.repeat(len(scores), 1), reduction="none").view(len(scores), len(sets))
    risks = probabilities @ values.T
    lowest = risks <= risks.amin(1, keepdim=True) + 1e-12
    errors = torch.einsum("puv,duv->dp", misordered(scores), pair_probabilities(probabilities))
    chosen = scores[torch.where(lowest, errors, torch.inf).argmin(1)]
    return chosen - chosen.mean(1, keepdim=True)


def misordered(scores: Tensor, tolerance: float = 1e-6) -> Tensor:
    """How wrong the order of f is for u above v, (..., K, K): 1 where f_u < f_v, 1/2 where they are equal."""
    difference = scores[..., :, None] - scores[..., None, :]
    return (difference < -tolerance).double() + 0.5 * (difference.abs() <= tolerance).double()


def ranking_error(scores: Tensor, probabilities: Tensor, tolerance: float = 1e-6) -> Tensor:
    """The expected number of pairs that the order of f gets wrong, (D,); a tie is half a mistake.

    The order of the marginals has the lowest: it is the Bayes rule of eqn 17.
    """
    return (misordered(scores, tolerance) * pair_probabilities(probabilities)).sum((1, 2))


def _num_labels(probabilities: Tensor) -> int:
    return probabilities.shape[1].bit_length() - 1
