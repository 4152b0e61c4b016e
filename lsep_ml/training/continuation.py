"""How a solver of smooth problems reaches the minimum of each loss: at once, or through others that lead to it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lsep_ml.losses import (
    LabelIndices,
    asl_loss,
    bce_loss,
    bpmll_loss,
    distribution_balanced_loss,
    focal_loss,
    hill_loss,
    ldam_loss,
    lsep_loss,
    pairwise_logistic_loss,
    ranking_loss,
    soft_f1_loss,
    softmax_loss,
    splc_loss,
    tkpr_loss,
    two_way_loss,
    warp_loss,
    zlpr_loss,
)
from lsep_ml.losses.hinge import smoothed_hinges
from lsep_ml.training.recipe import Loss
from lsep_ml.training.solver import Solution, minimise

COARSE_WIDTH = 0.3
"""Of the rounded kinks of hinges where only a weight decay is chosen."""

FINE_WIDTHS = (0.1, 0.01, 0.001, 3e-4, 1e-4, 3e-5, 1e-5)
"""The kinks followed towards none, until the minimum of the hinges themselves is known well enough."""

HINGE_TOLERANCE = 1e-4
"""How far, relatively, the ranking loss with its weight decay may lie above its minimum."""

HINGE_GRADIENT = 1e-3

NEARLY = 0.02
"""The norm of the gradient of rounded hinges at which their minimum is near: narrower ones, or WARP, may go on."""

_CONVEX = {
    *(
        bce_loss,
        bpmll_loss,
        distribution_balanced_loss,
        ldam_loss,
        lsep_loss,
        pairwise_logistic_loss,
        ranking_loss,
        softmax_loss,
        tkpr_loss,
        two_way_loss,
        zlpr_loss,
    )
}

_FROM_BCE = {asl_loss, focal_loss, hill_loss, soft_f1_loss, splc_loss}

KINKED = 30
"""Evaluations of a descent that may end at a kink."""

ROUNDS = 10
"""How often at most a descent of WARP begins anew where it stands."""


@dataclass(frozen=True)
class Problem:
    """A loss of scores that some parameters give, with a penalty on these.

    scores: computes them (N, K) from `parameters`. targets (N, K), mask (N, K) or None. penalty: computes a scalar.
    mean: computes the mean of a loss without all scores at once, where they are too many; None: they are not. Then
    there are no targets either.
    """

    parameters: Sequence[Tensor]
    scores: Callable[[], Tensor]
    targets: Any
    mask: Any
    penalty: Callable[[], Tensor]
    mean: Callable[[Loss], Tensor] | None = None

    def value(self, loss: Loss) -> Tensor:
        """Compute the mean loss with the penalty."""
        if self.mean is not None:
            return self.mean(loss) + self.penalty()
        return loss(self.scores(), self.targets, mask=self.mask) + self.penalty()


def check_solvable(loss: Loss) -> None:
    """Raise ValueError for a loss that draws at random: it has no minimum that could be found."""
    options = getattr(loss, "keywords", {})
    for name, off in (("max_pairs", None), ("sampled", False)):
        if options.get(name, off) != off:
            raise ValueError(
                f"loss.{name}={options[name]}: a loss that draws has no one minimum; take loss.{name}="
                f"{'null' if off is None else 'false'}, or training.solver=sgd"
            )


def is_convex(loss: Loss) -> bool:
    """Tell whether `loss`, a loss of this package with its options bound, is convex in the scores.

    Its minimum does not depend on how it is reached then. WARP is not (its weights jump), nor are the focal, the
    asymmetric, the Hill, the SPLC and the F1 loss, nor LSEP with weights: they end in a minimum near that of the convex
    loss they start from. Of other losses nothing is known.
    """
    return _function(loss) in _CONVEX and not _is_weighted(loss)


def _is_weighted(loss: Loss) -> bool:
    return bool(getattr(loss, "keywords", {}).get("weighted", False))


def leading(loss: Loss) -> Loss | None:
    """Return the convex loss at whose solution that of `loss` begins; None: `loss` needs none.

    It is binary cross entropy for what changes it, LSEP for LSEP with weights.
    """
    if _function(loss) in _FROM_BCE:
        return bce_loss
    return lsep_loss if _is_weighted(loss) else None


def reach(loss: Loss, problem: Problem, *, tolerance: float, fine: bool) -> Solution:
    """Minimise `loss` on `problem`, whose parameters start where they are and are left at the end.

    Smooth convex losses are minimised at once. The ranking loss is followed through hinges whose kinks are rounded less
    and less; `converged` means that its value lies within HINGE_TOLERANCE of its minimum by the duality gap at the
    rounded slopes, up to what the gradient that is left there adds to it. WARP begins, on the path, at the solution of
    the rounded ranking loss, and descends, there once and in the end until it stands at a kink: `converged` means that
    beginning anew lowers it by no more than HINGE_TOLERANCE of it; its gradient is nowhere small. Other losses that are
    not convex begin at the solution of `leading`, which is for the caller to reach.

    Args:
        loss: a function of `lsep_ml.losses`, its options bound.
        problem: in float64 where `fine`, but of hinges, which float32 is enough for.
        tolerance: on the norm of the gradient; for rounded hinges not below HINGE_GRADIENT, which is far less than
            their rounding.
        fine: to the end; else as well as choosing a weight decay needs, the kinks rounded at one width.

    Returns:
        The value of `loss` with its penalty, and the last minimisation's gradient norm.
    """
    function = _function(loss)
    if function is ranking_loss:
        return _reach_hinges(loss, problem, tolerance, fine)
    if function is warp_loss:
        return _reach_warp(loss, problem, tolerance, fine)
    return _minimise(loss, problem, tolerance)


def _function(loss: Loss) -> Callable[..., Tensor]:
    return getattr(loss, "func", loss)


def is_of_hinges(loss: Loss) -> bool:
    """Tell whether `loss` is one of hinges, whose minimum is known to HINGE_TOLERANCE alone: float32 can do."""
    return _function(loss) in (ranking_loss, warp_loss)


def _minimise(loss: Loss, problem: Problem, tolerance: float, max_evaluations: int | None = None) -> Solution:
    return minimise(
        problem.parameters,
        lambda: problem.value(loss),
        tolerance=tolerance,
        max_evaluations=max_evaluations,
    )


def _rounded(problem: Problem, margin: float, width: float) -> Loss:
    """Return the hinges of `problem`, rounded: a loss like the others, but of these targets alone."""
    targets = LabelIndices.of(problem.targets)

    def loss(scores: Tensor, _: Tensor, *, mask: Tensor | None) -> Tensor:
        return smoothed_hinges(scores, targets, mask=mask, margin=margin, width=width)

    return loss


def _reach_hinges(loss: Loss, problem: Problem, tolerance: float, fine: bool) -> Solution:
    margin = getattr(loss, "keywords", {}).get("margin", 1.0)
    iterations = 0
    for width in _widths_left(problem, margin) if fine else (COARSE_WIDTH,):
        rounded = _rounded(problem, margin, width)
        solution = _minimise(rounded, problem, max(tolerance, HINGE_GRADIENT))
        iterations += solution.iterations
        with torch.no_grad():
            value = float(problem.value(loss))
        known = _gap(loss, rounded, problem, margin) <= HINGE_TOLERANCE * value
        if known:
            break
    # The gap is one of minima: far from that of the rounded hinges it says nothing.
    known = known and solution.gradient_norm <= NEARLY
    return Solution(value, solution.gradient_norm, iterations, known if fine else solution.converged)


def _widths_left(problem: Problem, margin: float) -> tuple[float, ...]:
    """Return FINE_WIDTHS from the narrowest on whose minimum the parameters are near; all where they are near none."""
    for place in reversed(range(len(FINE_WIDTHS))):
        value = problem.value(_rounded(problem, margin, FINE_WIDTHS[place]))
        gradients = torch.autograd.grad(value, problem.parameters)
        if math.sqrt(sum(float(g.double().square().sum()) for g in gradients)) <= NEARLY:
            return FINE_WIDTHS[place:]
    return FINE_WIDTHS


def _gap(loss: Loss, rounded: Loss, problem: Problem, margin: float) -> float:
    """Bound how far the hinges lie above their minimum where the `rounded` ones have theirs.

    With x the terms margin + f_v - f_u and p the slopes of the rounded hinges there, p in [0, 1] is feasible in the
    dual where the gradient is zero, and the duality gap is the mean of sum max(0, x) - p x; a gradient g that is left,
    of the weights at weight decay w, adds |g|^2 / 4w to it, which is neglected.
    """
    with torch.no_grad():
        scores = problem.scores()
    absent = problem.targets == 0
    lifted = torch.where(absent, scores + margin, scores).requires_grad_()
    unlifted = torch.where(absent, lifted - margin, lifted)
    (slopes,) = torch.autograd.grad(rounded(unlifted, problem.targets, mask=problem.mask), lifted)
    hinges = loss(scores, problem.targets, mask=problem.mask)
    return float(hinges - (slopes * lifted.detach()).sum())


def _reach_warp(loss: Loss, problem: Problem, tolerance: float, fine: bool) -> Solution:
    margin = getattr(loss, "keywords", {}).get("margin", 1.0)
    iterations = 0
    if not fine:
        rounded = _rounded(problem, margin, COARSE_WIDTH)
        iterations = _minimise(rounded, problem, max(tolerance, NEARLY)).iterations
    with torch.no_grad():
        value = float(problem.value(loss))
    for _ in range(ROUNDS if fine else 1):
        before, solution = value, _minimise(loss, problem, tolerance, max_evaluations=KINKED)
        iterations, value = iterations + solution.iterations, solution.value
        stands = before - value <= HINGE_TOLERANCE * abs(value)
        if stands:
            break
    return Solution(value, solution.gradient_norm, iterations, stands)
