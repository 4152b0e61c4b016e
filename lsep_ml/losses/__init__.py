"""Losses for label prediction: pure functions (scores, targets, *, reduction, mask, ...) -> Tensor, on torch alone.

Each family is a file that names its public losses in `__all__`.
"""

from lsep_ml.losses import (
    binary,
    exponential,
    hinge,
    label_blocks,
    long_tail,
    missing_labels,
    pairwise_logistic,
    soft_f1,
    softmax,
    top_k,
    two_way,
    zlpr,
)
from lsep_ml.losses.binary import *
from lsep_ml.losses.exponential import *
from lsep_ml.losses.hinge import *
from lsep_ml.losses.kernels.class_counts import ClassCounts, with_class_counts
from lsep_ml.losses.kernels.fused import fused
from lsep_ml.losses.kernels.labels import LabelIndices
from lsep_ml.losses.label_blocks import *
from lsep_ml.losses.long_tail import *
from lsep_ml.losses.missing_labels import *
from lsep_ml.losses.pairwise_logistic import *
from lsep_ml.losses.properties import (
    compares_images,
    is_shift_invariant,
    shift_invariant,
    smoothed,
    smooths_labels,
)
from lsep_ml.losses.soft_f1 import *
from lsep_ml.losses.softmax import *
from lsep_ml.losses.top_k import *
from lsep_ml.losses.two_way import *
from lsep_ml.losses.zlpr import *

__all__ = [
    "ClassCounts",
    "LabelIndices",
    "compares_images",
    "fused",
    "is_shift_invariant",
    "shift_invariant",
    "smoothed",
    "smooths_labels",
    "with_class_counts",
]
__all__ += binary.__all__
__all__ += exponential.__all__
__all__ += hinge.__all__
__all__ += label_blocks.__all__
__all__ += long_tail.__all__
__all__ += missing_labels.__all__
__all__ += pairwise_logistic.__all__
__all__ += soft_f1.__all__
__all__ += softmax.__all__
__all__ += top_k.__all__
__all__ += two_way.__all__
__all__ += zlpr.__all__
