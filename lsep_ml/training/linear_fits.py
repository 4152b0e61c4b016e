"""Linear thresholds fitted on rows without some of their folds, and the weight decay they are fitted with.

A cross-fit whose choices are cross-fitted too asks for many such fits: on all rows, without each fold, without each
two. They share the features, which are put on their principal axes once.
"""

import copy
from collections.abc import Callable, Collection, Iterable
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lsep_ml.decisions.checks import float_tensor
from lsep_ml.decisions.linear import LOG_SCALE, LinearThresholds
from lsep_ml.metrics.indicator import dense_blocks
from lsep_ml.processes.group import ALONE, Processes
from lsep_ml.training.folds import Bools, Rows
from lsep_ml.training.principal_axes import ROWS, PrincipalAxes
from lsep_ml.training.solver import Solution, minimise

TOLERANCE, MAX_ITERATIONS = 1e-3, 1000
_STEPS, _WIDEST = (0, -1, -2), 12
"""Weight decays are 10^(step / 2): the steps tried first, and how far from 0 they may go."""

_CURVATURE = 0.5  # at the minimum, against scores that know nothing: what p (1 - p) falls to, roughly

Keep = Callable[[str, Callable[[], dict[str, Any]]], dict[str, Any]]
"""keep(name, make): what `make` made before under this name, tensors and plain data, or makes now."""


class OnAxes(NamedTuple):
    """Holds standardised features (N, D) on their principal axes."""

    axes: PrincipalAxes
    inputs: Tensor

    @classmethod
    def of(cls, inputs: Tensor) -> "OnAxes":
        """Turn standardised features to their axes."""
        some = inputs[:: max(1, -(-len(inputs) // ROWS))]
        axes = PrincipalAxes.of([some], inputs.shape[1])
        return cls(axes, axes.onto(inputs))


Share = Callable[[Callable[[], OnAxes]], OnAxes]
"""share(make): what `make` made before of the same features, or makes now."""


class Fitted(NamedTuple):
    """Says whether every minimisation ended at its tolerance, and the largest gradient norm."""

    converged: bool
    gradient_norm: float


class LinearFits:
    """Fits of linear thresholds like `decision`, fitted or not, on `rows` without some folds.

    Features are standardised on all rows. keep: where fits are found again by later calls; by default nowhere. share:
    where the features on their axes are, for fits on other scores; by default nowhere too. processes: they choose the
    weight decay together.
    """

    def __init__(
        self,
        decision: LinearThresholds,
        rows: Rows,
        keep: Keep = lambda name, make: make(),
        share: Share = lambda make: make(),
        processes: Processes = ALONE,
    ) -> None:
        self.rows, self.keep, self.share, self.processes = rows, keep, share, processes
        self._decision = copy.deepcopy(decision)

    @cached_property
    def weight_decay(self) -> float:
        """Return the weight decay of the decision; where it has none, the best by `choose_weight_decay`."""
        given = self._decision.weight_decay
        if given is not None:
            return given
        made = self.keep(
            "weight_decay", lambda: {"weight_decay": choose_weight_decay(self._problem, self.processes)}
        )
        return float(made["weight_decay"])

    def load(self, decision: LinearThresholds, without: Collection[int] = ()) -> Fitted:
        """Give `decision` the weights, bias, scale and weight decay of the fit on the rows outside some folds."""
        [(name, make)] = self.makes([without]).items()
        made = self.keep(name, make)
        decision.load_state_dict(made["state"], strict=False)  # the offsets are chosen
        return Fitted(made["converged"], made["gradient_norm"])

    def makes(self, left_out: Iterable[Collection[int]]) -> dict[str, Callable[[], dict[str, Any]]]:
        """Return what makes the fits without these folds, by the name that each is kept under."""
        return {
            "-".join(["without", *map(str, sorted(without))]) if without else "all": partial(
                self._fit, without
            )
            for without in left_out
        }

    @cached_property
    def _problem(self) -> "LinearProblem":
        return LinearProblem(self._decision, self.rows, self.share)

    def _fit(self, without: Collection[int]) -> dict[str, Any]:
        found = self._problem.solve(self.rows.outside(without), self.weight_decay)
        fitted, solution = self._problem.decision(found, self.weight_decay), found.solution
        state = {name: value for name, value in fitted.state_dict().items() if name != "offsets"}
        return {"state": state, "converged": solution.converged, "gradient_norm": solution.gradient_norm}


class LinearFit(NamedTuple):
    """A minimum: weight (K, D) on the axes, bias (K,), log_scale (), all float64, and how it was reached."""

    weight: Tensor
    bias: Tensor
    log_scale: Tensor
    solution: Solution


class LinearProblem:
    """Holds the objective of linear thresholds (`LinearThresholds.loss`) on `rows` or some of them, and its minimum.

    It is minimised in coordinates in which its curvature is about 1 everywhere (`PrincipalAxes`).
    """

    def __init__(self, decision: LinearThresholds, rows: Rows, share: Share = lambda make: make()) -> None:
        assert rows.features is not None
        self.rows = rows
        self._started = copy.deepcopy(decision)
        self._started.reset(rows.scores, rows.targets, rows.features, rows.known)
        with torch.no_grad():
            features = float_tensor(rows.features)
            self.axes, self.inputs = share(lambda: OnAxes.of(self._started.standardised(features)))

    def decision(self, found: LinearFit, weight_decay: float) -> LinearThresholds:
        """Return the linear thresholds of a minimum, without offsets."""
        decision = copy.deepcopy(self._started)
        with torch.no_grad():
            decision.weight.copy_(self.axes.to(found.weight).back(found.weight))
            decision.linear.bias.copy_(found.bias)
            decision.log_scale.copy_(found.log_scale)
        decision.decay.fill_(weight_decay)
        return decision

    def solve(self, chosen: Bools, weight_decay: float, start: LinearFit | None = None) -> LinearFit:
        """Minimise over the chosen rows, from scratch or from another minimum."""
        found = self._solve(chosen, weight_decay, start, torch.float32)
        if not found.solution.converged:  # single precision rounds too much where the weight decay is small
            found = self._solve(chosen, weight_decay, found, torch.float64)
        return found

    def log_loss(self, found: LinearFit, chosen: Bools) -> float:
        """Return the sum over the known entries of the chosen rows of log(1 + exp(-z)) of positives, (z) of
        negatives."""
        scores, targets, known, inputs = self._tensors(chosen, torch.float32)
        linear = torch.addmm(found.bias.float()[:, None], found.weight.float(), inputs.T)
        log_odds = _scale(found.log_scale).float() * scores - linear
        losses = F.binary_cross_entropy_with_logits(log_odds, targets, reduction="none")
        return float(losses[known].sum(dtype=torch.float64))

    def _tensors(self, chosen: Bools, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return scores, targets, known (K, n), transposed for faster products with the inputs (n, D)."""
        rows = self.rows
        inputs = self.inputs if chosen.all() else self.inputs[torch.from_numpy(np.flatnonzero(chosen))]
        scores = torch.from_numpy(np.asarray(rows.scores[chosen])).to(dtype)
        return (
            scores.T.contiguous(),
            _dense(rows.targets[chosen], dtype).T.contiguous(),
            _dense(rows.known[chosen], torch.bool).T.contiguous(),
            inputs.to(dtype),
        )

    def _solve(
        self, chosen: Bools, weight_decay: float, start: LinearFit | None, dtype: torch.dtype
    ) -> LinearFit:
        scores, targets, known, inputs = self._tensors(chosen, dtype)
        weights = known.to(dtype) * (len(known) / known.sum().clamp_min(1))
        positive = ((targets * known).sum(1) + 0.5) / (known.sum(1) + 1)
        curvature = _CURVATURE * positive * (1 - positive) * weights.sum(1).clamp_min(1e-6)
        middle = scores.mean(1)  # scores are centred, which parts the scale from the bias
        centred = scores - middle[:, None]
        spread = centred.square().mean(1)
        variance = spread.mean()
        if variance <= 1e-12 * scores.square().mean():  # one row, say: any scale will do
            variance = torch.ones_like(variance)
        initial = -0.5 * variance.log()
        of_weight = curvature[:, None] * self.axes.variances.to(dtype) + 2 * weight_decay
        of_weight = of_weight.clamp_min(1e-6 * of_weight.max()).sqrt()
        of_bias = curvature.sqrt()
        of_scale = ((curvature * spread).sum() / variance).clamp_min(1e-6 * curvature.sum()).sqrt()
        if start is None:
            weight, bias, log_scale = torch.zeros_like(of_weight), -torch.logit(positive), initial
        else:
            weight, bias, log_scale = (part.to(dtype) for part in start[:3])
            bias = bias - _scale(log_scale) * middle
        parameters = [
            (weight * of_weight).requires_grad_(),
            (bias * of_bias).requires_grad_(),
            ((log_scale - initial) * of_scale).requires_grad_(),
        ]

        def parts() -> tuple[Tensor, Tensor, Tensor]:
            weight, bias, log_scale = parameters
            return weight / of_weight, bias / of_bias, initial + log_scale / of_scale

        def objective() -> Tensor:
            weight, bias, log_scale = parts()
            log_odds = _scale(log_scale) * centred - torch.addmm(bias[:, None], weight, inputs.T)
            cross_entropy = F.binary_cross_entropy_with_logits(log_odds, targets, weights, reduction="sum")
            return cross_entropy + weight_decay * weight.square().sum()

        solution = minimise(parameters, objective, tolerance=TOLERANCE, max_iterations=MAX_ITERATIONS)
        with torch.no_grad():
            weight, bias, log_scale = (part.double() for part in parts())
        return LinearFit(weight, bias + _scale(log_scale) * middle, log_scale, solution)


def choose_weight_decay(problem: LinearProblem, processes: Processes = ALONE) -> float:
    """Return the weight decay of lowest log loss on rows that were not fitted on; the larger on a tie.

    The path, of powers of sqrt(10), is widened at the end where the best lies. Several processes fit other folds.
    """
    rows = problem.rows
    pairs = list(rows.splits()) if rows.judges is None or rows.judges.all() else [(~rows.judges, rows.judges)]
    losses: dict[int, float] = {}
    starts: list[LinearFit | None] = [None] * len(pairs)

    def log_loss(weight_decay: float) -> float:
        own = {}
        for number in range(processes.rank, len(pairs), processes.count):
            outside, inside = pairs[number]
            found = problem.solve(outside, weight_decay, starts[number])
            starts[number] = found
            own[number] = problem.log_loss(found, inside)
        of_pairs = {number: value for part in processes.gather(own) for number, value in part.items()}
        total = 0.0
        for number in range(len(pairs)):  # in their order, on which the sum's last bit depends
            total += of_pairs[number]
        return total

    ahead = list(_STEPS)
    while ahead:
        for step in ahead:
            losses[step] = log_loss(10 ** (step / 2))
        best = min(sorted(losses, reverse=True), key=lambda step: losses[step])
        ahead = [step for step in (best + 1, best - 1) if step not in losses and abs(step) <= _WIDEST]
    return float(10 ** (best / 2))


def _dense(matrix: Any, dtype: torch.dtype) -> Tensor:
    """Return a 0/1 matrix as a tensor, a sparse one some rows at a time."""
    dense = torch.empty(matrix.shape, dtype=dtype)
    first = 0
    for (block,) in dense_blocks(matrix):
        dense[first : first + len(block)] = torch.from_numpy(block)
        first += len(block)
    return dense


def _scale(log_scale: Tensor) -> Tensor:
    return torch.exp(log_scale.clamp(-LOG_SCALE, LOG_SCALE))
