"""Losses for label prediction: pure functions (scores, targets, *, reduction, mask, ...) -> Tensor, on torch alone.

Each family is a file that names its public losses in `__all__`.
"""

from lsep_ml.losses import binary, exponential, hinge, label_blocks, pairwise_logistic, softmax, two_way, zlpr
from lsep_ml.losses.binary import *
from lsep_ml.losses.exponential import *
from lsep_ml.losses.hinge import *
from lsep_ml.losses.kernels.fused import fused
from lsep_ml.losses.kernels.labels import LabelIndices
from lsep_ml.losses.label_blocks import *
from lsep_ml.losses.pairwise_logistic import *
from lsep_ml.losses.shift_invariance import is_shift_invariant, shift_invariant
from lsep_ml.losses.softmax import *
from lsep_ml.losses.two_way import *
from lsep_ml.losses.zlpr import *

__all__ = ["LabelIndices", "fused", "is_shift_invariant", "shift_invariant"]
__all__ += binary.__all__
__all__ += exponential.__all__
__all__ += hinge.__all__
__all__ += label_blocks.__all__
__all__ += pairwise_logistic.__all__
__all__ += softmax.__all__
__all__ += two_way.__all__
__all__ += zlpr.__all__
