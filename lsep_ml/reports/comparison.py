"""Which differences are real: those of two rows under the paired bootstrap over test images and seeds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lsep_ml.metrics import BY_KEY, LABEL_SET_KEYS
from lsep_ml.metrics.bootstrap import Replicates, percentiles


@dataclass(frozen=True)
class Comparison:
    """A metric's difference between two rows, in points of %, with its 95% interval."""

    first: str
    second: str
    key: str
    difference: float
    low: float
    high: float

    @property
    def real(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0

    @property
    def better(self) -> bool:
        """Whether the difference speaks for the first row: a lower value does where lower is better."""
        return bool(BY_KEY[self.key].gain(self.difference) > 0)


def compare(
    first: str,
    second: str,
    means: tuple[NDArray[np.float64], NDArray[np.float64]],
    replicates: tuple[Replicates, Replicates],
) -> list[Comparison]:
    """Every label-set metric's difference, first minus second; means (M,) and replicates (R, M) are fractions."""
    low, high = 100 * percentiles(replicates[0] - replicates[1])
    difference = 100 * (means[0] - means[1])
    return [
        Comparison(first, second, key, float(d), float(lo), float(hi))
        for key, d, lo, hi in zip(LABEL_SET_KEYS, difference, low, high, strict=True)
    ]
