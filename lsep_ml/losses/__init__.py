"""Losses for label prediction: pure functions (scores, targets, *, reduction, mask, ...) -> Tensor, on torch alone."""

from lsep_ml.losses.binary import asl_loss, bce_loss, focal_loss
from lsep_ml.losses.compiled import compiled
from lsep_ml.losses.exponential import BPMLL_CLAMP, bpmll_clamped_rows, bpmll_loss, lsep_loss
from lsep_ml.losses.fused import fused
from lsep_ml.losses.hinge import ranking_loss, warp_loss
from lsep_ml.losses.labels import LabelIndices
from lsep_ml.losses.pairwise_logistic import pairwise_logistic_loss
from lsep_ml.losses.softmax import softmax_loss
from lsep_ml.losses.zlpr import zlpr_loss

__all__ = [
    "BPMLL_CLAMP",
    "LabelIndices",
    "asl_loss",
    "bce_loss",
    "bpmll_clamped_rows",
    "bpmll_loss",
    "compiled",
    "focal_loss",
    "fused",
    "lsep_loss",
    "pairwise_logistic_loss",
    "ranking_loss",
    "softmax_loss",
    "warp_loss",
    "zlpr_loss",
]
