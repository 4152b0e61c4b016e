"""The standardisation that score layers are solved under, and layers of features as they are."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

_ROWS = 1024
"""Rows that are measured at a time."""


class ScoreLayer(NamedTuple):
    """Linear scores of standardised features: weight (K, D), bias (K,)."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Standardisation:
    """Takes features to mean 0 and deviation 1 on the training images; a column that does not vary becomes 0.

    mean, deviation: float64 (D,); a deviation of 1 stands for none. directions: (D, D), a column each, that they are
    turned to then; None: they are not.
    """

    mean: Tensor
    deviation: Tensor
    directions: Tensor | None = None

    @classmethod
    def of(cls, features: Tensor) -> "Standardisation":
        """Measure `features` (N, D), in fixed blocks of rows.

        Raises:
            FloatingPointError: features that are not finite; names the first row.
        """
        blocks = features.split(_ROWS)
        for number, block in enumerate(blocks):
            bad = torch.nonzero(~torch.isfinite(block).all(dim=1))
            if len(bad):
                row = number * _ROWS + int(bad[0])
                raise FloatingPointError(f"features of training image {row} are not finite")
        sums = torch.empty(len(blocks), features.shape[1], dtype=torch.float64)
        for block, total in zip(blocks, sums, strict=True):
            torch.sum(block.double(), 0, out=total)
        mean = sums.sum(0) / len(features)
        for block, total in zip(blocks, sums, strict=True):
            torch.sum(torch.sub(block, mean).square_(), 0, out=total)
        deviation = (sums.sum(0) / len(features)).sqrt()
        # What rounding leaves of a constant is no deviation: torch.float32 features, their mean in float64.
        constant = deviation <= 1e-6 * mean.abs()
        return cls(mean, torch.where(constant, 1.0, deviation))

    def take(self, raw: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Standardise raw features (n, D)."""
        values = torch.sub(raw, self.mean).div_(self.deviation).to(dtype).to(device)
        return values if self.directions is None else values @ self.directions.to(values)

    def raw(self, layer: ScoreLayer) -> ScoreLayer:
        """Return the layer of raw features, float32, whose scores are those of `layer` on standardised ones."""
        weight = layer.weight.double().cpu()
        weight = (weight if self.directions is None else weight @ self.directions.double().T) / self.deviation
        return ScoreLayer(weight.float(), (layer.bias.double().cpu() - weight @ self.mean).float())
