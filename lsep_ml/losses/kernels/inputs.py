"""What every loss does before and after its equation: it checks shapes and dtypes, and reduces over the rows."""

from typing import Literal

import torch
from torch import Tensor

from lsep_ml.losses.kernels.labels import LabelIndices

Reduction = Literal["mean", "sum", "none"]


def check_inputs(scores: Tensor, targets: Tensor | LabelIndices, mask: Tensor | None) -> Tensor:
    """Check shapes and dtypes, and return `scores` in at least float32.

    No value is looked at: those of the targets are where their labels are told apart (`check_targets`).

    Raises:
        ValueError: scores not floating point or not (N, K) with K > 0; targets or mask of another shape; mask not bool.
    """
    if not scores.is_floating_point():
        raise ValueError(f"scores: dtype {scores.dtype}, expected floating point")
    if scores.ndim != 2 or scores.shape[1] == 0:
        raise ValueError(f"scores: shape {tuple(scores.shape)}, expected (N, K), K > 0")
    if isinstance(targets, LabelIndices):
        _check_indices(targets, scores)
    elif targets.shape != scores.shape:
        raise ValueError(f"targets: shape {tuple(targets.shape)}, scores have {tuple(scores.shape)}")
    if mask is not None and (mask.shape != scores.shape or mask.dtype != torch.bool):
        raise ValueError(f"mask: {mask.dtype} {tuple(mask.shape)}, expected bool {tuple(scores.shape)}")
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def _check_indices(targets: LabelIndices, scores: Tensor) -> None:
    indices, num_labels = targets
    if indices.dtype != torch.int64:
        raise ValueError(f"targets.indices: dtype {indices.dtype}, expected int64")
    if indices.ndim != 2 or len(indices) != len(scores) or indices.shape[1] == 0:
        raise ValueError(
            f"targets.indices: shape {tuple(indices.shape)}, expected (N, P), P > 0, for {len(scores)} rows of scores"
        )
    if num_labels != scores.shape[1]:
        raise ValueError(f"targets.num_labels={num_labels}, scores have {scores.shape[1]}")


def reduce(losses: Tensor, reduction: Reduction) -> Tensor:
    """Reduce `losses` (N,) to their mean or their sum, or return them as they are.

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
