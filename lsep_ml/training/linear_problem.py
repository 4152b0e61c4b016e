"""The objective of linear thresholds on some rows, on the features' principal axes, and its minimum.

Fits on many choices of the same rows, such as all but a fold, are solved together: what they ask of the features is one
product, several times as fast as one for each.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lsep_ml.decisions.checks import float_tensor
from lsep_ml.decisions.linear import LOG_SCALE, LinearThresholds
from lsep_ml.metrics.indicator import dense_blocks
from lsep_ml.training.folds import Bools, Rows
from lsep_ml.training.principal_axes import ROWS, PrincipalAxes
from lsep_ml.training.solver import Solution, minimise_each

TOLERANCE, MAX_ITERATIONS = 1e-3, 1000

_CURVATURE = 0.5  # at the minimum, against scores that know nothing: what p (1 - p) falls to, roughly
_BLOCK = 512  # rows whose log odds are there at a time, of all choices


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

    def decisions(self, fits: Sequence[LinearFit], weight_decay: float) -> Iterator[LinearThresholds]:
        """Yield the linear thresholds of each fit, without offsets."""
        weights = torch.cat([fit.weight for fit in fits])
        weights = self.axes.to(weights).back(weights)
        for fit, weight in zip(fits, weights.chunk(len(fits)), strict=True):
            decision = copy.deepcopy(self._started)
            with torch.no_grad():
                decision.weight.copy_(weight)
                decision.linear.bias.copy_(fit.bias)
                decision.log_scale.copy_(fit.log_scale)
            decision.decay.fill_(weight_decay)
            yield decision

    def solve(
        self, chosen: Sequence[Bools], weight_decay: float, starts: Sequence[LinearFit] | None = None
    ) -> list[LinearFit]:
        """Minimise over each of several choices of rows, from scratch or from other minima.

        Their products with the features are made together, which is faster; no minimum depends on the other choices'
        targets.
        """
        found = self._solve(chosen, weight_decay, starts, torch.float32)
        for number, fit in enumerate(found):
            if not fit.solution.converged:  # single precision rounds too much where the weight decay is small
                [found[number]] = self._solve([chosen[number]], weight_decay, [fit], torch.float64)
        return found

    def log_loss(self, found: LinearFit, chosen: Bools) -> float:
        """Return the sum over the known entries of the chosen rows of log(1 + exp(-z)) of positives, (z) of
        negatives."""
        scores, targets, known, inputs = self._tensors(chosen, torch.float32)
        linear = torch.addmm(found.bias.float()[:, None], found.weight.float(), inputs.T)
        log_odds = _scale(found.log_scale).float() * scores - linear
        losses = F.binary_cross_entropy_with_logits(log_odds, targets, known, reduction="none")
        return float(losses.sum(dtype=torch.float64))

    def _tensors(self, chosen: Bools, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Return scores, targets, known (K, n), transposed for faster products with the inputs (n, D)."""
        rows = self.rows
        inputs = self.inputs if chosen.all() else self.inputs[torch.from_numpy(np.flatnonzero(chosen))]
        scores = torch.from_numpy(np.asarray(rows.scores[chosen])).to(dtype)
        known = _dense(rows.known[chosen], torch.bool)
        return (
            scores.T.contiguous(),
            _dense(rows.targets[chosen], dtype).T.contiguous(),
            None if known.all() else known.T.to(dtype).contiguous(),
            inputs.to(dtype),
        )

    def _blocks(self, chosen: Sequence[Bools], dtype: torch.dtype) -> Iterator["_RowBlock"]:
        """Yield the rows that are in the same of the choices, for each such set."""
        within = np.stack(chosen)
        sets, of_row = np.unique(np.packbits(within, axis=0), axis=1, return_inverse=True)
        for number in range(sets.shape[1]):
            inside = of_row.reshape(-1) == number
            members = np.flatnonzero(within[:, inside.argmax()])
            if len(members):
                yield _RowBlock(torch.from_numpy(members), *self._tensors(inside, dtype))

    def _solve(
        self,
        chosen: Sequence[Bools],
        weight_decay: float,
        starts: Sequence[LinearFit] | None,
        dtype: torch.dtype,
    ) -> list[LinearFit]:
        objectives = _Objectives(list(self._blocks(chosen, dtype)), len(chosen), self.axes, weight_decay)
        found = minimise_each(
            objectives.starts(starts), objectives.evaluate, tolerance=TOLERANCE, max_iterations=MAX_ITERATIONS
        )
        return objectives.fits(found)


class _RowBlock(NamedTuple):
    """Holds rows that are in the same of P choices: the numbers (M,) of these, scores, targets and known (K, n), None
    where all are, and inputs (n, D)."""

    members: Tensor
    scores: Tensor
    targets: Tensor
    known: Tensor | None
    inputs: Tensor

    def parts(self) -> Iterator[tuple[Tensor, Tensor, Tensor | None, Tensor]]:
        """Yield some rows at a time."""
        for start in range(0, len(self.inputs), _BLOCK):
            rows = slice(start, start + _BLOCK)
            known = None if self.known is None else self.known[:, rows]
            yield self.scores[:, rows], self.targets[:, rows], known, self.inputs[rows]


class _Objectives:
    """Computes the objectives (`LinearThresholds.loss`) on P choices of rows, and their gradients, from coordinates.

    The coordinates of a choice are its weight (K, D), bias (K,) and log scale, flat, each times the root of what the
    curvature is about along it. The scores are centred, which parts the scale from the bias.
    """

    def __init__(
        self, blocks: list[_RowBlock], choices: int, axes: PrincipalAxes, weight_decay: float
    ) -> None:
        self.weight_decay = weight_decay
        some = blocks[0].scores
        counts, positives = some.new_zeros((2, choices, len(some)))
        for block in blocks:
            counts[block.members] += len(block.inputs) if block.known is None else block.known.sum(1)
            true = block.targets if block.known is None else block.targets * block.known
            positives[block.members] += true.sum(1)
        rows = sum(len(block.inputs) for block in blocks)
        self._middle = (
            torch.stack([block.scores.sum(1, dtype=torch.float64) for block in blocks]).sum(0) / rows
        )
        self._middle = self._middle.to(some)
        squares = torch.stack([block.scores.square().sum() for block in blocks]).sum() / rows
        for block in blocks:
            block.scores.sub_(self._middle[:, None])
        self._blocks = blocks
        spread = torch.stack([block.scores.square().sum(1) for block in self._blocks]).sum(0) / rows
        variance = spread.mean()
        if variance <= 1e-12 * squares / len(some):  # one row, say: any scale will do
            variance = torch.ones_like(variance)
        self._log_scale = -0.5 * variance.log()
        self._positive = (positives + 0.5) / (counts + 1)
        self._share = len(some) / counts.sum(1).clamp_min(1)
        curvature = _CURVATURE * self._positive * (1 - self._positive)
        curvature *= (self._share[:, None] * counts).clamp_min(1e-6)
        of_weight = curvature[:, :, None] * axes.variances.to(some) + 2 * weight_decay
        of_weight = of_weight.clamp_min(1e-6 * of_weight.amax((1, 2), keepdim=True))
        of_scale = (curvature @ spread / variance).clamp_min(1e-6 * curvature.sum(1))
        self._sizes = [of_weight[0].numel(), len(some), 1]
        self._units = torch.cat([of_weight.flatten(1), curvature, of_scale[:, None]], 1).sqrt()

    def starts(self, fits: Sequence[LinearFit] | None) -> list[Tensor]:
        """Return where to start: at other fits, or at scores that the features know nothing of."""
        weight, bias, log_scale = self._parts(torch.zeros_like(self._units))
        if fits is None:
            bias = -torch.logit(self._positive)
        else:
            weight, bias, log_scale = (
                torch.stack(part).to(weight) for part in list(zip(*fits, strict=True))[:3]
            )
            bias = bias - _scale(log_scale)[:, None] * self._middle
        flat = torch.cat([weight.flatten(1), bias, (log_scale - self._log_scale)[:, None]], 1)
        return list(flat * self._units)

    def fits(self, found: Sequence[tuple[Tensor, Solution]]) -> list[LinearFit]:
        """Return the fits, from their coordinates."""
        parts = self._parts(torch.stack([at for at, _ in found]) / self._units)
        weight, bias, log_scale = (part.double() for part in parts)
        bias = bias + _scale(log_scale)[:, None] * self._middle
        return [
            LinearFit(*fit) for fit in zip(weight, bias, log_scale, [end for _, end in found], strict=True)
        ]

    def _parts(self, flat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return weight (P, K, D), bias (P, K) and log scale (P,)."""
        weight, bias, log_scale = flat.split(self._sizes, 1)
        return weight.unflatten(1, (self._sizes[1], -1)), bias, self._log_scale + log_scale[:, 0]

    def evaluate(self, points: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
        """Return the value at a point of each choice, float64 (P,), and the gradients there."""
        weight, bias, log_scale = self._parts(torch.stack(list(points)) / self._units)
        scale = _scale(log_scale)
        losses, slopes = torch.zeros(len(weight), dtype=torch.float64), torch.zeros_like(self._units)
        of_weight, of_bias, of_scale = slopes.split(self._sizes, 1)
        for block in self._blocks:
            of = block.members
            mine, shift, size = weight[of].flatten(0, 1), bias[of].reshape(-1, 1), scale[of, None, None]
            sums = torch.zeros_like(mine)
            for scores, targets, known, inputs in block.parts():
                log_odds = torch.addmm(shift, mine, inputs.T, beta=-1, alpha=-1)
                log_odds = log_odds.view(len(of), *scores.shape).addcmul_(size, scores)
                every = None if known is None else known.expand_as(log_odds)
                loss = F.binary_cross_entropy_with_logits(
                    log_odds, targets.expand_as(log_odds), every, reduction="none"
                )
                losses.index_add_(0, of, loss.sum((1, 2)).double())
                wrong = log_odds.sigmoid_().sub_(targets)
                if known is not None:
                    wrong *= known
                of_bias.index_add_(0, of, wrong.sum(2), alpha=-1)
                of_scale.index_add_(0, of, torch.mv(wrong.flatten(1), scores.flatten())[:, None])
                sums.addmm_(wrong.flatten(0, 1), inputs, alpha=-1)
            # faster than index_add_
            for number, part in zip(of.tolist(), sums.view(len(of), -1), strict=True):
                of_weight[number] += part
        slopes *= self._share[:, None]
        of_weight += 2 * self.weight_decay * weight.flatten(1)
        of_scale *= (scale * (log_scale.abs() <= LOG_SCALE))[:, None]
        values = self._share * losses + self.weight_decay * weight.square().sum((1, 2))
        return values, list(slopes / self._units)


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
