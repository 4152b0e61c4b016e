"""A probe as what it is, a problem with one solution: the score layer that minimises a loss on features that stay.

It minimises the mean loss per image plus w |W|^2, W the weights on standardised features, by all training images at
once; the bias is free. w is chosen on validation mAP from a path. See `lsep_ml.training.continuation` for how the
minimum of each loss is reached.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lsep_ml.losses import compares_images, is_shift_invariant
from lsep_ml.training.continuation import Problem, reach
from lsep_ml.training.principal_axes import ROWS, PrincipalAxes
from lsep_ml.training.recipe import Loss
from lsep_ml.training.solver import Solution

PATH = (0, -1, -2)
"""Half decades: the weight decays 1, 0.32 and 0.1, tried first and in this order, each from the solution before."""

WIDEST = (-12, 6)
"""As far as the path goes on while the best lies on its edge: 1e-6 and 1e3."""

COARSE = 3e-4
"""The tolerance on the path and in the folds, in float32, times the loss of scores that are all 0."""

_AT_MINIMUM = 0.3  # of the curvature of scores that are all 0, roughly
_BLOCK = 1024  # rows; larger ones are slower on a CPU in float64
_KEPT = 2**30  # bytes of standardised features that are kept, above which they are made anew at each pass


class ScoreLayer(NamedTuple):
    """Linear scores of standardised features: weight (K, D), bias (K,)."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Standardisation:
    """Takes features to mean 0 and deviation 1 on the training images; a column that does not vary becomes 0.

    mean, deviation: float64 (D,); a deviation of 1 stands for none.
    """

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, features: Tensor) -> "Standardisation":
        """Measure `features` (N, D), in fixed blocks of rows.

        Raises:
            FloatingPointError: features that are not finite; names the first row.
        """
        blocks = features.split(_BLOCK)
        for number, block in enumerate(blocks):
            bad = torch.nonzero(~torch.isfinite(block).all(dim=1))
            if len(bad):
                row = number * _BLOCK + int(bad[0])
                raise FloatingPointError(f"features of training image {row} are not finite")
        sums = torch.empty(len(blocks), features.shape[1], dtype=torch.float64)
        for block, total in zip(blocks, sums, strict=True):
            torch.sum(block.double(), 0, out=total)
        mean = sums.sum(0) / len(features)
        for block, total in zip(blocks, sums, strict=True):
            torch.sum((block.double() - mean).square(), 0, out=total)
        deviation = (sums.sum(0) / len(features)).sqrt()
        # What rounding leaves of a constant is no deviation: torch.float32 features, their mean in float64.
        constant = deviation <= 1e-6 * mean.abs()
        return cls(mean, torch.where(constant, 1.0, deviation))

    def raw(self, layer: ScoreLayer) -> ScoreLayer:
        """Return the layer of raw features, float32, whose scores are those of `layer` on standardised ones."""
        weight = layer.weight.double().cpu() / self.deviation
        return ScoreLayer(weight.float(), (layer.bias.double().cpu() - weight @ self.mean).float())


class Blocks:
    """Holds the rows of features (N, D) standardised, a block at a time, in the type and on the device asked for.

    features may be memory-mapped: more of them than fit in memory are read anew at each pass. rows: of them; None: all.
    """

    def __init__(
        self,
        features: Tensor,
        standardisation: Standardisation,
        *,
        rows: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        rows = torch.arange(len(features)) if rows is None else rows
        self.dtype = dtype
        self.sizes = [len(block) for block in rows.split(_BLOCK)]

        def made() -> Iterator[Tensor]:
            for block in rows.split(_BLOCK):
                x = (features[block].double() - standardisation.mean) / standardisation.deviation
                yield x.to(dtype).to(device)

        few = len(rows) * features.shape[1] * dtype.itemsize <= _KEPT
        kept = list(made()) if few else None
        self._made: Callable[[], Iterator[Tensor]] = made if kept is None else lambda: iter(kept)

    def __iter__(self) -> Iterator[Tensor]:
        return self._made()

    def scores(self, layer: ScoreLayer) -> Tensor:
        """Compute (N, K), differentiable in the layer's weight and bias."""
        scores: Tensor = _Scores.apply(layer.weight, layer.bias, self)
        return scores


class _Scores(torch.autograd.Function):
    """Linear scores of blocks of rows; the gradient is added up in the order of the blocks.

    What a block gives is written into one tensor: small ones kept between large ones that go would part the memory into
    pieces too small for the next block, until all features stand in it.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, blocks: Blocks) -> Tensor:
        ctx.blocks, ctx.width = blocks, weight.shape[1]
        # Transposed: thin products are faster on a CPU this way round, twice in float64.
        scores = weight.new_empty(len(weight), sum(blocks.sizes))
        for part, block in zip(scores.split(blocks.sizes, 1), blocks, strict=True):
            part.copy_(weight @ block.T)
        return scores.T.contiguous() + bias

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,) = gradients
        parts = zip(gradient.split(ctx.blocks.sizes), ctx.blocks, strict=True)
        weight = gradient.new_zeros(gradient.shape[1], ctx.width)
        for part, block in parts:
            weight += part.T @ block
        return weight, gradient.sum(0), None


@dataclass(frozen=True)
class ProbeImages:
    """Training images of a probe: what score layers are fitted on.

    features: float (N, D), memory-mapped or not. standardisation: of them. targets: 0/1 (N, K). mask: bool (N, K), True
    where known; None: all are. rows: those of these images that count; None: all. device: where things are computed.
    axes: of the standardised features; None: their own.
    """

    features: Tensor
    standardisation: Standardisation
    targets: Tensor
    mask: Tensor | None
    rows: Tensor | None = None
    device: torch.device | str = "cpu"
    axes: PrincipalAxes | None = None

    def on_axes(self) -> "ProbeImages":
        """Take the images with the principal axes of their features, on which a layer is solved for in fewer steps."""
        width, step = self.features.shape[1], max(1, -(-len(self.features) // ROWS))
        some = Blocks(self.features, self.standardisation, rows=torch.arange(0, len(self.features), step))
        return replace(self, axes=PrincipalAxes.of(some, width))

    def only(self, rows: Tensor) -> "ProbeImages":
        """Take `rows` of all images, standardised as all are."""
        return replace(self, rows=rows)

    def blocks(self, dtype: torch.dtype = torch.float32) -> Blocks:
        """Standardise the features."""
        return Blocks(self.features, self.standardisation, rows=self.rows, dtype=dtype, device=self.device)

    def labels(self) -> tuple[Tensor, Tensor | None]:
        """Return the targets and the mask of the rows."""
        mask = self.mask
        if self.rows is None:
            return self.targets, mask
        return self.targets[self.rows], None if mask is None else mask[self.rows]

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
        """Minimise `loss` plus `decay` |W|^2 from `start`, on `blocks` in their type; `fine`: as in `reach`."""
        weight, bias = (part.to(self.device, blocks.dtype) for part in start)
        targets, mask = (None if part is None else part.to(self.device) for part in self.labels())
        assert targets is not None
        own = PrincipalAxes(None, torch.ones(weight.shape[1]))
        axes = (own if self.axes is None else self.axes).to(weight)
        curvature = _curvature(loss, blocks.scores(ScoreLayer(weight, bias)).detach(), targets, mask)
        of_weight = (curvature[:, None] * axes.variances + 2 * decay).sqrt()
        of_bias = curvature.sqrt()
        largest = float(torch.maximum(of_weight.amax(), of_bias.amax()).clamp_min(1))
        turned = (axes.onto(weight) * of_weight).requires_grad_()
        shift = (bias * of_bias).requires_grad_()
        problem = Problem(
            [turned, shift],
            lambda: blocks.scores(ScoreLayer(axes.back(turned / of_weight), shift / of_bias)),
            targets,
            mask,
            lambda: decay * (turned / of_weight).square().sum(),
        )
        solution = reach(loss, problem, tolerance=tolerance / largest, fine=fine)
        weight, bias = axes.back(turned / of_weight).detach().cpu(), (shift / of_bias).detach().cpu()
        # In weight and bias the gradient is at most so large.
        solution = replace(solution, gradient_norm=solution.gradient_norm * largest)
        return ScoreLayer(weight, self._levelled(loss, bias)), solution

    def _levelled(self, loss: Loss, bias: Tensor) -> Tensor:
        """Set the level of all scores where the loss leaves it open: the mean bias of the images' labels is 0.

        Else a label that hardly occurs, whose bias falls without end, would lift the others, in each fold otherwise.
        """
        if not (is_shift_invariant(loss) or compares_images(loss)):
            return bias
        shares = self.targets.sum(0, dtype=bias.dtype)
        return bias - (shares * bias).sum() / shares.sum().clamp(min=1)

    def start(self, loss: Loss) -> tuple[ScoreLayer, float]:
        """Return the layer whose scores are all 0, where a path begins, and the tolerance in float32, by the loss of
        it."""
        labels = self.targets.shape[1]
        value = float(loss(torch.zeros(self.targets.shape), self.targets, mask=self.mask))
        layer = ScoreLayer(torch.zeros(labels, self.features.shape[1]), torch.zeros(labels))
        return layer, COARSE * (value if value > COARSE else 1.0)


def _curvature(loss: Loss, scores: Tensor, targets: Tensor, mask: Tensor | None) -> Tensor:
    """Estimate the curvature of `loss` in the scores of each label, (K,): positive, whatever the loss.

    It is the mean square of each image's own slope, which in a log likelihood has the curvature's expectation; less is
    left of it at a minimum.
    """
    scores = scores.clone().requires_grad_()
    (slopes,) = torch.autograd.grad(loss(scores, targets, mask=mask), scores)
    squares = _AT_MINIMUM * (len(slopes) * slopes).square().mean(0)
    if not torch.isfinite(squares).all():  # the solver says what is wrong
        return torch.ones_like(squares)
    return squares.clamp_min(1e-3 * squares.amax()).clamp_min(1e-12)


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
