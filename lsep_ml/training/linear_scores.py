"""Linear scores of standardised features, a block of rows at a time: all of them, or the mean loss without them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lsep_ml.training.recipe import Loss

_KEPT = 2**30  # bytes of standardised features that are kept, above which they are made anew at each pass
_BLOCK = 1024  # rows; larger ones are slower on a CPU in float64
_ENTRIES = 2**22  # of scores made at a time in `Blocks.loss`


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


RowLabels = Callable[[slice], tuple[Tensor, Tensor | None]]
"""Returns the targets and the mask of some rows."""


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

    def parts(self, labels: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield some rows at a time, few enough for their scores of so many labels, and where they stand."""
        start = 0
        for block in self:
            for x in block.split(max(1, _ENTRIES // labels)):
                yield slice(start, start + len(x)), x
                start += len(x)

    def loss(self, loss: Loss, layer: ScoreLayer, labels: RowLabels) -> Tensor:
        """Compute the mean loss, differentiable in the layer's weight and bias; no more than some rows' scores are
        there at a time."""
        value: Tensor = _MeanLoss.apply(layer.weight, layer.bias, self, loss, labels)
        return value


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


class _MeanLoss(torch.autograd.Function):
    """Mean loss of linear scores that are made, used and left again, some rows at a time, in the order of the rows."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor, blocks: Blocks, loss: Loss, labels: RowLabels
    ) -> Tensor:
        of_weight, of_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        total = weight.new_zeros((), dtype=torch.float64)
        for rows, x in blocks.parts(len(weight)):
            value, slope = slopes_of(loss, torch.addmm(bias, x, weight.T), *labels(rows))
            total += value
            of_weight.addmm_(slope.T, x)
            of_bias += slope.sum(0)
        images = sum(blocks.sizes)
        ctx.save_for_backward(of_weight / images, of_bias / images)
        return (total / images).to(weight.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        of_weight, of_bias = ctx.saved_tensors
        return gradients[0] * of_weight, gradients[0] * of_bias, None, None, None


def slopes_of(loss: Loss, scores: Tensor, targets: Any, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the summed loss of these rows and its gradient in the scores."""
    with torch.enable_grad():
        scores = scores.detach().requires_grad_()
        value = loss(scores, targets, mask=mask, reduction="sum")
        (slopes,) = torch.autograd.grad(value, scores)
    return value.detach(), slopes
