"""A probe as what it is, a problem with one solution: the score layer that minimises a loss on features that stay.

It minimises the mean loss per image plus w |W|^2, W the weights on standardised features, by all training images at
once; the bias is free. w is chosen on validation mAP from a path. See `lsep_ml.training.continuation` for how the
minimum of each loss is reached.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lsep_ml.losses import compares_images, is_shift_invariant
from lsep_ml.metrics.indicator import SparseIndicator
from lsep_ml.processes.group import ALONE, Processes
from lsep_ml.training.continuation import Problem, is_of_hinges, leading, reach
from lsep_ml.training.linear_scores import Blocks, StandardisedFeatures, slopes_of
from lsep_ml.training.principal_axes import PrincipalAxes
from lsep_ml.training.recipe import Loss
from lsep_ml.training.solver import Solution
from lsep_ml.training.standardisation import ScoreLayer, Standardisation

PATH = (0, -1, -2)
"""Half decades: the weight decays 1, 0.32 and 0.1, tried first and in this order, each from the solution before."""

WIDEST = (-12, 6)
"""As far as the path goes on while the best lies on its edge: 1e-6 and 1e3."""

COARSE = 3e-4
"""The tolerance on the path and in the folds, in float32, times the loss of scores that are all 0."""

_AT_MINIMUM = 0.3  # of the curvature of scores that are all 0, roughly
_LARGE = 2**26  # scores from which on they are made some rows at a time, in each evaluation of the loss


def dense_tensor(matrix: Tensor | SparseIndicator, rows: Any = slice(None)) -> Tensor:
    """Return rows of a 0/1 matrix as a dense tensor."""
    if isinstance(matrix, SparseIndicator):
        return torch.from_numpy(np.asarray(matrix[rows if isinstance(rows, slice) else rows.numpy()]))
    return matrix[rows]


@dataclass(frozen=True)
class ProbeImages:
    """Training images of a probe: what score layers are fitted on.

    features: of all of them. targets: 0/1 (N, K), dense or sparse, or soft ones. mask: bool (N, K), True where known;
    None: all are. rows: those of these images that count; None: all. device: where things are computed. axes: that
    weights are solved for on; None: the features themselves. processes: that make the scores which are too many to be
    there at once.
    """

    features: StandardisedFeatures
    targets: Tensor | SparseIndicator
    mask: Tensor | SparseIndicator | None
    rows: Tensor | None = None
    device: torch.device | str = "cpu"
    axes: PrincipalAxes | None = None
    processes: Processes = ALONE

    def on_axes(self) -> "ProbeImages":
        """Take the images with the principal axes of their features, on which a layer is solved for in fewer steps."""
        return replace(self, axes=self.features.axes)

    def only(self, rows: Tensor) -> "ProbeImages":
        """Take `rows` of all images, standardised as all are."""
        return replace(self, rows=rows)

    def blocks(self, dtype: torch.dtype = torch.float32) -> Blocks:
        """Standardise the features."""
        return self.features.blocks(self.rows, dtype=dtype, device=self.device)

    def labels(self) -> tuple[Tensor, Tensor | None]:
        """Return the targets and the mask of the rows, dense."""
        return self.labels_of(slice(None))

    def labels_of(self, some: slice) -> tuple[Tensor, Tensor | None]:
        """Return the targets and the mask of some of the rows, dense."""
        rows: Any = some if self.rows is None else self.rows[some]
        targets, mask = (
            None if matrix is None else dense_tensor(matrix, rows).to(self.device)
            for matrix in (self.targets, self.mask)
        )
        assert targets is not None
        return targets, mask

    def in_parts(self, loss: Loss) -> bool:
        """Return whether the scores are too many to be there at once, and `loss` does with some rows' at a time."""
        rows = len(self.features) if self.rows is None else len(self.rows)
        return rows * self.targets.shape[1] >= _LARGE and not (compares_images(loss) or is_of_hinges(loss))

    def solve(
        self,
        loss: Loss,
        decay: float,
        start: ScoreLayer,
        blocks: Blocks,
        *,
        tolerance: float,
        fine: bool = False,
    ) -> tuple[ScoreLayer, Solution]:
        """Minimise `loss` plus `decay` |W|^2 from `start`, on `blocks` in their type; `fine`: as in `reach`.

        A loss with another that is `leading` begins at its solution, which is reached from `start` on its own scale;
        where `fine`, at `start`, a solution of `loss` already.
        """
        first = None if fine else leading(loss)
        if first is not None:
            start, _ = self.solve(first, decay, start, blocks, tolerance=tolerance)
        weight, bias = (part.to(self.device, blocks.dtype) for part in start)
        parts = self.in_parts(loss)
        targets, mask = (None, None) if parts else self.labels()
        own = PrincipalAxes(None, torch.ones(weight.shape[1]))
        axes = (own if self.axes is None else self.axes).to(weight)
        curvature = self._curvature(loss, ScoreLayer(weight, bias), blocks)
        of_weight = (curvature[:, None] * axes.variances + 2 * decay).sqrt()
        of_bias = curvature.sqrt()
        largest = float(torch.maximum(of_weight.amax(), of_bias.amax()).clamp_min(1))
        turned = (axes.onto(weight) * of_weight).requires_grad_()
        shift = (bias * of_bias).requires_grad_()

        def layer() -> ScoreLayer:
            return ScoreLayer(axes.back(turned / of_weight), shift / of_bias)

        problem = Problem(
            [turned, shift],
            lambda: blocks.scores(layer()),
            targets,
            mask,
            lambda: decay * (turned / of_weight).square().sum(),
            (lambda of: blocks.loss(of, layer(), self.labels_of, self.processes)) if parts else None,
        )
        solution = reach(loss, problem, tolerance=tolerance / largest, fine=fine)
        weight, bias = axes.back(turned / of_weight).detach().cpu(), (shift / of_bias).detach().cpu()
        # In weight and bias the gradient is at most so large.
        solution = replace(solution, gradient_norm=solution.gradient_norm * largest)
        return ScoreLayer(weight, self._levelled(loss, bias)), solution

    def _curvature(self, loss: Loss, layer: ScoreLayer, blocks: Blocks) -> Tensor:
        """Estimate the curvature of `loss` in the scores of each label, (K,): positive, whatever the loss.

        It is the mean square of each image's own slope, which in a log likelihood has the curvature's expectation; less
        is left of it at a minimum.
        """
        if self.in_parts(loss):
            sums = torch.zeros_like(layer.bias)
            for rows, x in blocks.parts(len(layer.weight)):
                scores = torch.addmm(layer.bias, x, layer.weight.T)
                sums += slopes_of(loss, scores, *self.labels_of(rows))[1].square().sum(0)
            squares = _AT_MINIMUM * sums / sum(blocks.sizes)
        else:
            targets, mask = self.labels()
            scores = blocks.scores(layer).detach().clone().requires_grad_()
            (slopes,) = torch.autograd.grad(loss(scores, targets, mask=mask), scores)
            squares = _AT_MINIMUM * (len(slopes) * slopes).square().mean(0)
        if not torch.isfinite(squares).all():  # the solver says what is wrong
            return torch.ones_like(squares)
        return squares.clamp_min(1e-3 * squares.amax()).clamp_min(1e-12)

    def _levelled(self, loss: Loss, bias: Tensor) -> Tensor:
        """Set the level of all scores where the loss leaves it open: the mean bias of the images' labels is 0.

        Else a label that hardly occurs, whose bias falls without end, would lift the others, in each fold otherwise.
        """
        if not (is_shift_invariant(loss) or compares_images(loss)):
            return bias
        shares = torch.as_tensor(self.targets.sum(0)).to(bias.dtype)
        return bias - (shares * bias).sum() / shares.sum().clamp(min=1)

    def start(self, loss: Loss) -> tuple[ScoreLayer, float]:
        """Return the layer whose scores are all 0, where a path begins, and the tolerance in float32, by the loss of
        it."""
        labels = self.targets.shape[1]
        layer = ScoreLayer(torch.zeros(labels, self.features.width), torch.zeros(labels))
        if self.in_parts(loss):
            nothing = Standardisation(torch.zeros(0), torch.ones(0))
            without = StandardisedFeatures(self.features.raw[:, :0], nothing)
            blocks = without.blocks(self.rows, device=self.device)
            value = float(blocks.loss(loss, ScoreLayer(layer.weight[:, :0], layer.bias), self.labels_of))
        else:
            targets, mask = self.labels()
            value = float(loss(torch.zeros(targets.shape, device=self.device), targets, mask=mask))
        return layer, COARSE * (value if value > COARSE else 1.0)


def weight_decay(half_decades: int) -> float:
    """Return 10 to the power of half of `half_decades`."""
    return float(10 ** (half_decades / 2))


def best_of(maps: Mapping[int, float]) -> int:
    """Return the half decade of the highest validation mAP, the larger one (the simpler scores) on a tie."""
    return max(maps, key=lambda step: (maps[step], step))


def next_on_path(maps: Mapping[int, float]) -> int | None:
    """Return the half decade that a path goes on with after those in `maps`, which have their validation mAP; None: it
    ends.

    PATH first, and then beyond the edge that is best, as far as WIDEST.
    """
    return next_outwards(maps, PATH, WIDEST, best_of)


def next_outwards(
    maps: Mapping[int, float],
    first: Sequence[int],
    widest: tuple[int, int],
    best: Callable[[Mapping[int, float]], int],
    stride: int = 1,
) -> int | None:
    """Return the step that a search goes on with after those in `maps`: one of the `first`, then `stride` beyond the
    lowest or the highest of all while that is the `best`, within `widest`; None: the best lies between others, or at
    the end."""
    for step in first:
        if step not in maps:
            return step
    found, low, high = best(maps), min(maps), max(maps)
    if found == low > widest[0]:
        return low - stride
    if found == high < widest[1]:
        return high + stride
    return None
