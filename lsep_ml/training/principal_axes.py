"""The principal axes of standardised features: where the curvature of a loss of linear scores is roughly known.

A smooth loss of scores x W + b with a weight decay w |W|^2 has, along an axis of variance v, a curvature of about
c v + 2 w, c that of the loss in a score. Weights on these axes, each times the root of its curvature, are coordinates
in which a minimiser needs a few steps, whatever the weight decay; no minimum moves.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

_MOST = 2048  # features above which the principal axes would cost more than they save

ROWS = 8192
"""So many rows are enough to find the axes by."""


class PrincipalAxes(NamedTuple):
    """Holds principal axes: `directions` (D, D), a column each; None: the features' own; `variances` (D,) of each."""

    directions: Tensor | None
    variances: Tensor

    @classmethod
    def of(cls, blocks: Iterable[Tensor], width: int) -> "PrincipalAxes":
        """Find the axes of standardised features, blocks of rows (n, D), D = `width`; of very many, their own."""
        if width > _MOST:
            return cls(None, torch.ones(width))
        gram, rows = torch.zeros(width, width), 0
        for block in blocks:
            gram += (block.T @ block).float().cpu()
            rows += len(block)
        variances, directions = torch.linalg.eigh(gram / rows)
        return cls(directions, variances.clamp_min(0))

    def to(self, like: Tensor) -> "PrincipalAxes":
        """Take them to the type and device of a tensor."""
        directions = None if self.directions is None else self.directions.to(like)
        return PrincipalAxes(directions, self.variances.to(like))

    def onto(self, weight: Tensor) -> Tensor:
        """Turn weights (K, D) of features, or features (N, D), to the axes."""
        return weight if self.directions is None else weight @ self.directions

    def back(self, weight: Tensor) -> Tensor:
        """Turn weights (K, D) on the axes to the features."""
        return weight if self.directions is None else weight @ self.directions.T
