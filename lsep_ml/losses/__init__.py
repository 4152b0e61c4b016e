"""Losses for label prediction: pure functions (scores, targets, *, reduction, mask, ...) -> Tensor, on torch alone."""

from lsep_ml.losses.exponential import BPMLL_CLAMP, bpmll_clamped_rows, bpmll_loss, lsep_loss
from lsep_ml.losses.fused import fused
from lsep_ml.losses.hinge import ranking_loss, warp_loss
from lsep_ml.losses.labels import LabelIndices
from lsep_ml.losses.softmax import softmax_loss

__all__ = [
    "BPMLL_CLAMP",
    "LabelIndices",
    "bpmll_clamped_rows",
    "bpmll_loss",
    "fused",
    "lsep_loss",
    "ranking_loss",
    "softmax_loss",
    "warp_loss",
]
