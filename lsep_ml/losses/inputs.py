"""What every loss does before and after its equation: check the input, tell labels apart, reduce over the rows."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Reduction = Literal["mean", "sum", "none"]


class Rows(NamedTuple):
    """Scores in at least float32, and which entries are known positives and known negatives; all (N, K)."""

    scores: Tensor
    positive: Tensor
    negative: Tensor


def check(scores: Tensor, targets: Tensor, mask: Tensor | None) -> Rows:
    """The rows of a batch; half precision becomes float32. Only shapes and dtypes are looked at, never values.

    Raises:
        ValueError: scores not floating point or not (N, K); targets or mask of another shape; mask not bool.
    """
    if not scores.is_floating_point():
        raise ValueError(f"scores: dtype {scores.dtype}, expected floating point")
    if scores.ndim != 2:
        raise ValueError(f"scores: shape {tuple(scores.shape)}, expected (N, K)")
    if targets.shape != scores.shape:
        raise ValueError(f"targets: shape {tuple(targets.shape)}, scores have {tuple(scores.shape)}")
    if mask is not None and (mask.shape != scores.shape or mask.dtype != torch.bool):
        raise ValueError(f"mask: {mask.dtype} {tuple(mask.shape)}, expected bool {tuple(scores.shape)}")
    positive = targets != 0
    negative = ~positive
    if mask is not None:
        positive, negative = positive & mask, negative & mask
    return Rows(scores.to(torch.promote_types(scores.dtype, torch.float32)), positive, negative)


def reduce(losses: Tensor, reduction: Reduction) -> Tensor:
    """The mean or sum over the rows, or the rows as they are.

    Raises:
        ValueError: another reduction.
    """
    if reduction == "mean":
        return losses.mean()
    if reduction == "sum":
        return losses.sum()
    if reduction == "none":
        return losses
    raise ValueError(f"reduction={reduction!r}: expected 'mean', 'sum' or 'none'")
